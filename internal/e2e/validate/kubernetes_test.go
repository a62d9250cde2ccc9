package validate

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// scaledObject is what of KEDA's type is used here: its module brings hundreds of others.
// Its schema is held against the object as it stands.
type scaledObject struct {
	object []byte // JSON

	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		ScaleTargetRef struct {
			Name string `json:"name"`
		} `json:"scaleTargetRef"`
		MinReplicaCount int32 `json:"minReplicaCount"`
		MaxReplicaCount int32 `json:"maxReplicaCount"`
		PollingInterval int32 `json:"pollingInterval"`
		CooldownPeriod  int32 `json:"cooldownPeriod"`
		Advanced        struct {
			HorizontalPodAutoscalerConfig map[string]any `json:"horizontalPodAutoscalerConfig"`
		} `json:"advanced"`
		Triggers []struct {
			Type     string            `json:"type"`
			Metadata map[string]string `json:"metadata"`
		} `json:"triggers"`
	} `json:"spec"`
}

// cluster is what a kustomization makes.
type cluster struct {
	pods    map[string]corev1.PodTemplateSpec // by kind/name of what makes them
	claims  map[string][]corev1.PersistentVolumeClaim
	own     map[string]corev1.PersistentVolumeClaim
	configs map[string]corev1.ConfigMap
	budgets []policyv1.PodDisruptionBudget
	scaled  []scaledObject
	number  map[string]*int32

	policies []networkingv1.NetworkPolicy
	monitors []monitoringv1.PodMonitor
}

// build makes a kustomization, and reads each object strictly: a member that its
// type does not have is an error.
func build(t *testing.T, path string, fs filesys.FileSystem) *cluster {
	t.Helper()
	made, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(fs, path)
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{
		pods: make(map[string]corev1.PodTemplateSpec), claims: make(map[string][]corev1.PersistentVolumeClaim),
		own: make(map[string]corev1.PersistentVolumeClaim), configs: make(map[string]corev1.ConfigMap), number: make(map[string]*int32),
	}
	for _, r := range made.Resources() {
		text, err := r.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		name := r.GetKind() + "/" + r.GetName()
		strict := func(into any) {
			t.Helper()
			if err := yaml.UnmarshalStrict(text, into); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		switch gvk := r.GetGvk(); gvk.ApiVersion() + " " + gvk.Kind {
		case "apps/v1 Deployment":
			var o appsv1.Deployment
			strict(&o)
			c.pods[name], c.number[name] = o.Spec.Template, o.Spec.Replicas
			selects(t, name, o.Spec.Selector, o.Spec.Template.Labels)
		case "apps/v1 StatefulSet":
			var o appsv1.StatefulSet
			strict(&o)
			c.pods[name], c.claims[name], c.number[name] = o.Spec.Template, o.Spec.VolumeClaimTemplates, o.Spec.Replicas
			selects(t, name, o.Spec.Selector, o.Spec.Template.Labels)
		case "v1 PersistentVolumeClaim":
			var o corev1.PersistentVolumeClaim
			strict(&o)
			c.own[o.Name] = o
		case "v1 ConfigMap":
			var o corev1.ConfigMap
			strict(&o)
			c.configs[o.Name] = o
		case "v1 Service":
			strict(new(corev1.Service))
		case "networking.k8s.io/v1 NetworkPolicy":
			var o networkingv1.NetworkPolicy
			strict(&o)
			c.policies = append(c.policies, o)
		case "policy/v1 PodDisruptionBudget":
			var o policyv1.PodDisruptionBudget
			strict(&o)
			c.budgets = append(c.budgets, o)
		case "keda.sh/v1alpha1 ScaledObject":
			var o scaledObject
			strict(&o)
			if o.object, err = yaml.YAMLToJSON(text); err != nil {
				t.Fatal(err)
			}
			c.scaled = append(c.scaled, o)
		case "monitoring.coreos.com/v1 PodMonitor":
			var o monitoringv1.PodMonitor
			strict(&o)
			c.monitors = append(c.monitors, o)
		default:
			t.Errorf("%s is of a type that this test does not know: %s", name, gvk)
		}
	}
	for name, pod := range c.pods {
		c.check(t, path, name, &pod)
	}
	return c
}

func selects(t *testing.T, name string, s *metav1.LabelSelector, labels map[string]string) bool {
	t.Helper()
	selector, err := metav1.LabelSelectorAsMap(s)
	ok := err == nil && len(selector) > 0
	for k, v := range selector {
		ok = ok && labels[k] == v
	}
	if !ok && name != "" {
		t.Errorf("%s does not select its own pods: %v of %v", name, s, labels)
	}
	return ok
}

// check holds a pod against the program, what it mounts against what there is, and
// both against what services need.
func (c *cluster) check(t *testing.T, path, name string, pod *corev1.PodTemplateSpec) {
	t.Helper()
	where := filepath.Base(path) + ", " + name
	if len(pod.Spec.Containers) != 1 {
		t.Fatalf("%s: %d containers", where, len(pod.Spec.Containers))
	}
	ctr := pod.Spec.Containers[0]
	var env []string
	for _, from := range ctr.EnvFrom {
		if from.ConfigMapRef == nil {
			continue
		}
		config, ok := c.configs[from.ConfigMapRef.Name]
		if !ok {
			t.Errorf("%s: there is no ConfigMap %s", where, from.ConfigMapRef.Name)
		}
		for k := range config.Data {
			env = append(env, k)
		}
	}
	checkCommand(t, where, ctr.Args, env)
	if len(env) < 2 {
		t.Errorf("%s: nobody says where NATS is: %v", where, env)
	}

	var ports []string
	for _, p := range ctr.Ports {
		ports = append(ports, p.Name)
		if !slices.Contains(ctr.Args, fmt.Sprintf("--listen=:%d", p.ContainerPort)) {
			t.Errorf("%s: port %d, but %v", where, p.ContainerPort, ctr.Args)
		}
	}
	// It listens where others may connect, so it has to say that this is meant, and a policy who they are.
	guarded := 0
	for _, policy := range c.policies {
		if selects(t, "", &policy.Spec.PodSelector, pod.Labels) && slices.Contains(policy.Spec.PolicyTypes, networkingv1.PolicyTypeIngress) {
			guarded++
			for _, rule := range policy.Spec.Ingress {
				if len(rule.From) == 0 || len(rule.Ports) == 0 {
					t.Errorf("%s: a policy lets everybody in: %+v", where, rule)
				}
			}
		}
	}
	if guarded != 1 || !slices.Contains(ctr.Args, "--allow-unauthenticated") {
		t.Errorf("%s listens without authentication, behind %d policies, with %v", where, guarded, ctr.Args)
	}
	for kind, p := range map[string]*corev1.Probe{"/healthz": ctr.LivenessProbe, "/readyz": ctr.ReadinessProbe} {
		if p == nil || p.HTTPGet == nil || p.HTTPGet.Path != kind || !slices.Contains(ports, p.HTTPGet.Port.String()) {
			t.Errorf("%s: the probe of %s is %+v", where, kind, p)
		}
	}
	if g := pod.Spec.TerminationGracePeriodSeconds; g == nil || *g < 25 {
		t.Errorf("%s: %v seconds to stop; draining takes up to 20", where, g)
	}
	s, p := ctr.SecurityContext, pod.Spec.SecurityContext
	if s == nil || p == nil || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem ||
		s.Capabilities == nil || !slices.Contains(s.Capabilities.Drop, "ALL") || p.RunAsNonRoot == nil || !*p.RunAsNonRoot || p.SeccompProfile == nil {
		t.Errorf("%s is not restricted: %+v, %+v", where, s, p)
	}
	if !strings.HasPrefix(ctr.Image, "ghcr.io/afterword-io/afterword:v") {
		t.Errorf("%s: image %s", where, ctr.Image)
	}

	volumes := make(map[string]bool)
	for _, v := range pod.Spec.Volumes {
		volumes[v.Name] = true
		if claim := v.PersistentVolumeClaim; claim != nil {
			if pvc, ok := c.own[claim.ClaimName]; !ok || !slices.Contains(pvc.Spec.AccessModes, corev1.ReadWriteMany) {
				t.Errorf("%s: the claim %s is shared and not ReadWriteMany: %+v", where, claim.ClaimName, pvc)
			}
		}
	}
	for _, v := range c.claims[name] {
		volumes[v.Name] = true
	}
	var mounted []string
	for _, m := range ctr.VolumeMounts {
		mounted = append(mounted, m.MountPath)
		if !volumes[m.Name] {
			t.Errorf("%s mounts %s, which is no volume", where, m.Name)
		}
		delete(volumes, m.Name)
	}
	if len(volumes) > 0 {
		t.Errorf("%s does not mount %v", where, volumes)
	}
	for _, arg := range ctr.Args {
		flag, dir, _ := strings.Cut(arg, "=")
		if flag == "--spool-dir" && !under(dir, mounted) || flag == "--data-dir" && ctr.Args[0] == "consume" && !under(dir, mounted) {
			t.Errorf("%s: %s is on no volume of %v", where, arg, mounted)
		}
	}
	budgets := 0
	for _, b := range c.budgets {
		if selects(t, "", b.Spec.Selector, pod.Labels) {
			budgets++
		}
	}
	if budgets != 1 {
		t.Errorf("%s has %d disruption budgets", where, budgets)
	}
}

func TestKubernetes(t *testing.T) {
	disk := filesys.MakeFsOnDisk()
	base := build(t, deploy+"/kubernetes/base", disk)
	if len(base.pods) != 2 || base.number["Deployment/afterword-consumer"] == nil {
		t.Errorf("the base makes %d kinds of pods", len(base.pods))
	}
	copies := build(t, deploy+"/kubernetes/copies", disk)
	if len(copies.pods) != 2 || len(copies.own) != 0 {
		t.Errorf("copies makes %d kinds of pods, and shares %v", len(copies.pods), copies.own)
	}
}

// with builds a kustomization with a component, as a user's own names them.
func with(t *testing.T, resources, component string) *cluster {
	t.Helper()
	dir, err := filepath.Abs(deploy + "/kubernetes")
	if err != nil {
		t.Fatal(err)
	}
	top := t.TempDir()
	rel := func(name string) string {
		path, err := filepath.Rel(top, filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	disk := filesys.MakeFsOnDisk()
	text := fmt.Sprintf("apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [%s]\ncomponents: [%s]\n", rel(resources), rel(component))
	if err := disk.WriteFile(filepath.Join(top, "kustomization.yaml"), []byte(text)); err != nil {
		t.Fatal(err)
	}
	return build(t, top, disk)
}

// With the component, KEDA scales what there is by what the consumers' group leaves.
func TestKubernetesScaler(t *testing.T) {
	c := with(t, "base", "keda")
	if len(c.scaled) != 1 || len(c.scaled[0].Spec.Triggers) != 1 {
		t.Fatalf("%+v", c.scaled)
	}
	spec := c.scaled[0].Spec
	target := "Deployment/" + spec.ScaleTargetRef.Name
	if n, ok := c.number[target]; !ok || n != nil {
		t.Errorf("%s: there %v, with %v replicas of its own", target, ok, n)
	}
	if spec.MinReplicaCount < 1 || spec.MaxReplicaCount <= spec.MinReplicaCount {
		t.Errorf("from %d to %d", spec.MinReplicaCount, spec.MaxReplicaCount)
	}
	meta := spec.Triggers[0].Metadata
	if spec.Triggers[0].Type != "nats-jetstream" || meta["stream"] != "AFTERWORD_TURNS" || meta["consumer"] != "transcripts" || meta["account"] == "" || meta["lagThreshold"] == "" || meta["natsServerMonitoringEndpoint"] == "" {
		t.Errorf("%+v", spec.Triggers[0])
	}
}
