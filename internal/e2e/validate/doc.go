// Package validate reads what is delivered for containers as the programs that take it
// do: Compose's own loader, BuildKit's parser, kustomize, and the types of the Kubernetes
// API, strictly. None of them is needed to build or test afterword itself and they bring
// hundreds of modules, so this is a module of its own.
package validate
