package validate

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// Who asks for metrics, and who may not.
var (
	monitoring = labels.Set{"kubernetes.io/metadata.name": "monitoring"}
	elsewhere  = labels.Set{"kubernetes.io/metadata.name": "elsewhere"}
	prometheus = labels.Set{"app.kubernetes.io/name": "prometheus"}
	other      = labels.Set{"app.kubernetes.io/name": "grafana"}
)

// With the component, Prometheus finds the metrics of every pod once, under the job name
// of the alerts, and no policy is in its way. Others still get in nowhere where it had to
// be said who may.
func TestKubernetesMonitor(t *testing.T) {
	for _, resources := range []string{"base", "copies"} {
		c := with(t, resources, "podmonitor")
		if len(c.monitors) != 1 || len(c.policies) != 2 {
			t.Fatalf("%s: %d monitors, %d policies", resources, len(c.monitors), len(c.policies))
		}
		spec := c.monitors[0].Spec
		if len(spec.PodMetricsEndpoints) != 1 || spec.NamespaceSelector.Any || len(spec.NamespaceSelector.MatchNames) > 0 {
			t.Fatalf("%s: the monitor is %+v", resources, spec)
		}
		endpoint := spec.PodMetricsEndpoints[0]
		if endpoint.Port == nil || endpoint.Path != "/metrics" {
			t.Fatalf("%s: the monitor asks port %v for %q", resources, endpoint.Port, endpoint.Path)
		}
		job := ""
		for _, r := range endpoint.RelabelConfigs {
			if r.TargetLabel == "job" && r.Replacement != nil {
				job = *r.Replacement
			}
		}
		if job != "afterword" {
			t.Errorf("%s: the job is %q; the alerts ask for afterword", resources, job)
		}
		for name, pod := range c.pods {
			if !matches(t, &spec.Selector, pod.Labels) {
				t.Errorf("%s: the monitor does not select %s", resources, name)
			}
			port := portNamed(&pod, *endpoint.Port)
			if port == nil {
				t.Errorf("%s: %s has no port %s", resources, name, *endpoint.Port)
				continue
			}
			if !c.admits(t, &pod, port, monitoring, prometheus) {
				t.Errorf("%s: no policy lets Prometheus ask %s", resources, name)
			}
			if c.admits(t, &pod, port, monitoring, other) || c.admits(t, &pod, port, elsewhere, prometheus) {
				t.Errorf("%s: %s lets in more than Prometheus", resources, name)
			}
		}
	}
}

func portNamed(pod *corev1.PodTemplateSpec, name string) *corev1.ContainerPort {
	for _, ctr := range pod.Spec.Containers {
		for i := range ctr.Ports {
			if ctr.Ports[i].Name == name {
				return &ctr.Ports[i]
			}
		}
	}
	return nil
}

// admits reports whether policies let a pod of another namespace reach a port of pod: one
// that no policy selects is open.
func (c *cluster) admits(t *testing.T, pod *corev1.PodTemplateSpec, port *corev1.ContainerPort, namespace, from labels.Set) bool {
	t.Helper()
	selected := false
	for _, p := range c.policies {
		if !matches(t, &p.Spec.PodSelector, pod.Labels) {
			continue
		}
		selected = true
		for _, rule := range p.Spec.Ingress {
			if opens(rule.Ports, port) && lets(t, rule.From, namespace, from) {
				return true
			}
		}
	}
	return !selected
}

func opens(ports []networkingv1.NetworkPolicyPort, port *corev1.ContainerPort) bool {
	for _, p := range ports {
		if p.Port == nil || p.Port.StrVal == port.Name || p.Port.IntVal == port.ContainerPort {
			return true
		}
	}
	return len(ports) == 0
}

func lets(t *testing.T, peers []networkingv1.NetworkPolicyPeer, namespace, from labels.Set) bool {
	t.Helper()
	for _, p := range peers {
		// Without a namespace selector it is about pods of the policy's own namespace.
		if p.NamespaceSelector != nil && matches(t, p.NamespaceSelector, namespace) && (p.PodSelector == nil || matches(t, p.PodSelector, from)) {
			return true
		}
	}
	return len(peers) == 0
}

func matches(t *testing.T, s *metav1.LabelSelector, of labels.Set) bool {
	t.Helper()
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		t.Fatal(err)
	}
	return selector.Matches(of)
}
