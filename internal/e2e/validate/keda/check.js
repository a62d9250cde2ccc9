// Reads an object of keda.sh/v1alpha1 as JSON from standard input and holds it against
// the schema that KEDA gives Kubernetes; says what is wrong with it, and ends with 1.
import { readFileSync } from 'node:fs'
import { ScaledObject } from '@kubernetes-models/keda/keda.sh/v1alpha1'

try {
  new ScaledObject(JSON.parse(readFileSync(0, 'utf8'))).validate()
} catch (err) {
  console.error(err.message)
  process.exit(1)
}
