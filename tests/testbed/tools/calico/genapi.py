import yaml,glob,re,sys
C=sys.argv[1]
kinds=["BGPConfiguration","BGPFilter","BGPPeer","CalicoNodeStatus","ClusterInformation","FelixConfiguration","GlobalNetworkPolicy","GlobalNetworkSet","HostEndpoint","IPPool","IPReservation","KubeControllersConfiguration","NetworkPolicy","NetworkSet","Profile"]
crd={}
for f in glob.glob(C+'/libcalico-go/config/crd/*.yaml'):
    d=yaml.safe_load(open(f)); crd[d['spec']['names']['kind']]=d['spec']['versions'][0]['schema']['openAPIV3Schema']['properties']
out=[]; structs=[]
def emit(name,fields):
    structs.append(name); out.append("type %s struct {\n%s\n}\n"%(name,"\n".join("\t"+f for f in fields)))
# --- FelixConfigurationSpec from the CRD
PRE=[('ipv6','IPv6'),('ipip','IPIP'),('bpf','BPF'),('xdp','XDP'),('vxlan','VXLAN'),('aws','AWS'),('mtu','MTU'),('nat','NAT')]
def goname(n):
    for a,b in PRE:
        if n.startswith(a) and (len(n)==len(a) or n[len(a)].isupper()): return b+n[len(a):]
    return n[0].upper()+n[1:]
OV={'awsSrcDstCheck':'*AWSSrcDstCheckOption','bpfConnectTimeLoadBalancing':'*BPFConnectTimeLBType','bpfHostNetworkedNATWithoutCTLB':'*BPFHostNetworkedNATType','floatingIPs':'*FloatingIPType','iptablesBackend':'*IptablesBackend','iptablesMarkMask':'*uint32','bpfPSNATPorts':'*numorstring.Port','natPortRange':'*numorstring.Port','kubeNodePortRanges':'*[]numorstring.Port','bpfLogFilters':'*map[string]string','failsafeInboundHostPorts':'*[]ProtoPort','failsafeOutboundHostPorts':'*[]ProtoPort','healthTimeoutOverrides':'[]HealthTimeoutOverride','routeTableRange':'*RouteTableRange','routeTableRanges':'*RouteTableRanges','windowsManageFirewallRules':'*WindowsManageFirewallRulesMode','dataplaneWatchdogTimeout':'*metav1.Duration'}
# names that Felix's own (v1) config uses where they differ from the field name
V1={'ipipEnabled':'IpInIpEnabled','ipipMTU':'IpInIpMtu','externalNodesList':'ExternalNodesCIDRList'}
GN={'externalNodesList':'ExternalNodesCIDRList'}
fs=[]
for n,s in sorted(crd['FelixConfiguration']['spec']['properties'].items()):
    t=s.get('type')
    if n in OV: g=OV[n]
    elif t=='boolean': g='*bool'
    elif t=='integer': g='*int'
    elif t=='array': g='*[]string'
    elif t=='string' and '(ms|s|m|h)' in s.get('pattern',''): g='*metav1.Duration'
    elif t=='string': g='string'
    else: raise SystemExit((n,s))
    tag='json:"%s,omitempty"'%n
    if n in V1: tag+=' confignamev1:"%s"'%V1[n]
    fs.append("%s %s `%s`"%(GN.get(n,goname(n)),g,tag))
emit('FelixConfigurationSpec',fs)
# --- the others by hand
def S(name,body):
    emit(name,[l.strip() for l in body.strip().splitlines()])
def J(name,spec):   # "Field type json"
    emit(name,["%s %s `json:\"%s,omitempty\"`"%tuple(x.split()) for x in spec.strip().splitlines()])
J('ProtoPort',"Protocol string protocol\nPort uint16 port\nNet string net")
emit('HealthTimeoutOverride',['Name string `json:"name"`','Timeout metav1.Duration `json:"timeout"`'])
emit('RouteTableRange',['Min int `json:"min"`','Max int `json:"max"`'])
emit('RouteTableIDRange',['Min int `json:"min"`','Max int `json:"max"`'])
emit('EndpointPort',['Name string `json:"name" validate:"portName"`','Protocol numorstring.Protocol `json:"protocol"`','Port uint16 `json:"port" validate:"gt=0"`'])
emit('Rule',['Action Action `json:"action" validate:"action"`','IPVersion *int `json:"ipVersion,omitempty" validate:"omitempty,ipVersion"`','Protocol *numorstring.Protocol `json:"protocol,omitempty" validate:"omitempty"`','ICMP *ICMPFields `json:"icmp,omitempty" validate:"omitempty"`','NotProtocol *numorstring.Protocol `json:"notProtocol,omitempty" validate:"omitempty"`','NotICMP *ICMPFields `json:"notICMP,omitempty" validate:"omitempty"`','Source EntityRule `json:"source,omitempty" validate:"omitempty"`','Destination EntityRule `json:"destination,omitempty" validate:"omitempty"`','HTTP *HTTPMatch `json:"http,omitempty" validate:"omitempty"`','Metadata *RuleMetadata `json:"metadata,omitempty" validate:"omitempty"`'])
J('HTTPPath',"Exact string exact\nPrefix string prefix")
J('HTTPMatch',"Methods []string methods\nPaths []HTTPPath paths")
J('ICMPFields',"Type *int type\nCode *int code")
emit('EntityRule',['Nets []string `json:"nets,omitempty" validate:"omitempty,dive,net"`','Selector string `json:"selector,omitempty" validate:"omitempty,selector"`','NamespaceSelector string `json:"namespaceSelector,omitempty" validate:"omitempty,selector"`','Services *ServiceMatch `json:"services,omitempty"`','Ports []numorstring.Port `json:"ports,omitempty" validate:"omitempty,dive"`','NotNets []string `json:"notNets,omitempty" validate:"omitempty,dive,net"`','NotSelector string `json:"notSelector,omitempty" validate:"omitempty,selector"`','NotPorts []numorstring.Port `json:"notPorts,omitempty" validate:"omitempty,dive"`','ServiceAccounts *ServiceAccountMatch `json:"serviceAccounts,omitempty"`'])
J('ServiceMatch',"Name string name\nNamespace string namespace")
J('ServiceAccountMatch',"Names []string names\nSelector string selector")
J('RuleMetadata',"Annotations map[string]string annotations")
pol="""Order *float64 order
Ingress []Rule ingress
Egress []Rule egress
Selector string selector
Types []PolicyType types
ServiceAccountSelector string serviceAccountSelector
PerformanceHints []PolicyPerformanceHint performanceHints"""
J('NetworkPolicySpec',pol)
J('GlobalNetworkPolicySpec',pol+"\nDoNotTrack bool doNotTrack\nPreDNAT bool preDNAT\nApplyOnForward bool applyOnForward\nNamespaceSelector string namespaceSelector")
J('ProfileSpec',"Ingress []Rule ingress\nEgress []Rule egress\nLabelsToApply map[string]string labelsToApply")
J('NetworkSetSpec',"Nets []string nets"); J('GlobalNetworkSetSpec',"Nets []string nets"); J('IPReservationSpec',"ReservedCIDRs []string reservedCIDRs")
J('HostEndpointSpec',"Node string node\nInterfaceName string interfaceName\nExpectedIPs []string expectedIPs\nProfiles []string profiles\nPorts []EndpointPort ports")
J('IPIPConfiguration',"Enabled bool enabled\nMode EncapMode mode")
emit('IPPoolSpec',['CIDR string `json:"cidr" validate:"net"`']+["%s %s `json:\"%s,omitempty\"`"%tuple(x.split()) for x in """VXLANMode VXLANMode vxlanMode
IPIPMode IPIPMode ipipMode
NATOutgoing bool natOutgoing
Disabled bool disabled
DisableBGPExport bool disableBGPExport
BlockSize int blockSize
NodeSelector string nodeSelector
IPIP *IPIPConfiguration ipip
NATOutgoingV1 bool nat-outgoing
AllowedUses []IPPoolAllowedUse allowedUses""".splitlines()])
J('ClusterInformationSpec',"ClusterGUID string clusterGUID\nClusterType string clusterType\nCalicoVersion string calicoVersion\nDatastoreReady *bool datastoreReady\nVariant string variant")
J('Community',"Name string name\nValue string value")
J('PrefixAdvertisement',"CIDR string cidr\nCommunities []string communities")
for k in ('ServiceClusterIPBlock','ServiceExternalIPBlock','ServiceLoadBalancerIPBlock'): J(k,"CIDR string cidr")
J('BGPPassword',"SecretKeyRef *k8sv1.SecretKeySelector secretKeyRef")
J('BGPConfigurationSpec',"""LogSeverityScreen string logSeverityScreen
NodeToNodeMeshEnabled *bool nodeToNodeMeshEnabled
ASNumber *numorstring.ASNumber asNumber
ServiceLoadBalancerIPs []ServiceLoadBalancerIPBlock serviceLoadBalancerIPs
ServiceExternalIPs []ServiceExternalIPBlock serviceExternalIPs
ServiceClusterIPs []ServiceClusterIPBlock serviceClusterIPs
Communities []Community communities
PrefixAdvertisements []PrefixAdvertisement prefixAdvertisements
ListenPort uint16 listenPort
NodeMeshPassword *BGPPassword nodeMeshPassword
NodeMeshMaxRestartTime *metav1.Duration nodeMeshMaxRestartTime
BindMode *BindMode bindMode
IgnoredInterfaces []string ignoredInterfaces""")
for v in ('V4','V6'): J('BGPFilterRule'+v,"CIDR string cidr\nSource BGPFilterMatchSource source\nInterface string interface\nMatchOperator BGPFilterMatchOperator matchOperator\nAction BGPFilterAction action")
J('BGPFilterSpec',"ExportV4 []BGPFilterRuleV4 exportV4\nImportV4 []BGPFilterRuleV4 importV4\nExportV6 []BGPFilterRuleV6 exportV6\nImportV6 []BGPFilterRuleV6 importV6")
J('BGPPeerSpec',"""Node string node
NodeSelector string nodeSelector
PeerIP string peerIP
ASNumber numorstring.ASNumber asNumber
PeerSelector string peerSelector
KeepOriginalNextHop bool keepOriginalNextHop
Password *BGPPassword password
SourceAddress SourceAddress sourceAddress
MaxRestartTime *metav1.Duration maxRestartTime
NumAllowedLocalASNumbers *int32 numAllowedLocalASNumbers
TTLSecurity *uint8 ttlSecurity
ReachableBy string reachableBy
Filters []string filters""")
J('CalicoNodeStatusSpec',"Node string node\nClasses []NodeStatusClassType classes\nUpdatePeriodSeconds *uint32 updatePeriodSeconds")
emit('CalicoNodeStatusStatus',['LastUpdated metav1.Time `json:"lastUpdated,omitempty"`'])
J('AutoHostEndpointConfig',"AutoCreate string autoCreate")
J('NodeControllerConfig',"ReconcilerPeriod *metav1.Duration reconcilerPeriod\nSyncLabels string syncLabels\nHostEndpoint *AutoHostEndpointConfig hostEndpoint\nLeakGracePeriod *metav1.Duration leakGracePeriod")
for k in ('Policy','WorkloadEndpoint','ServiceAccount','Namespace'): J(k+'ControllerConfig',"ReconcilerPeriod *metav1.Duration reconcilerPeriod")
J('ControllersConfig',"Node *NodeControllerConfig node\nPolicy *PolicyControllerConfig policy\nWorkloadEndpoint *WorkloadEndpointControllerConfig workloadEndpoint\nServiceAccount *ServiceAccountControllerConfig serviceAccount\nNamespace *NamespaceControllerConfig namespace")
J('KubeControllersConfigurationSpec',"Controllers ControllersConfig controllers\nLogSeverityScreen string logSeverityScreen\nHealthChecks string healthChecks\nEtcdV3CompactionPeriod *metav1.Duration etcdV3CompactionPeriod\nPrometheusMetricsPort *int prometheusMetricsPort\nDebugProfilePort *int32 debugProfilePort")
J('KubeControllersConfigurationStatus',"EnvironmentVars map[string]string environmentVars")
consts=[]
for k in kinds:
    f=['metav1.TypeMeta `json:",inline"`','metav1.ObjectMeta `json:"metadata,omitempty"`','Spec %sSpec `json:"spec,omitempty"`'%k]
    if k in('CalicoNodeStatus','KubeControllersConfiguration'): f.append('Status %sStatus `json:"status,omitempty"`'%k)
    emit(k,f); emit(k+'List',['metav1.TypeMeta `json:",inline"`','metav1.ListMeta `json:"metadata,omitempty"`','Items []%s `json:"items"`'%k])
    consts+=['Kind%s = "%s"'%(k,k),'Kind%sList = "%sList"'%(k,k)]
    out.append('func New%s() *%s { return &%s{TypeMeta: metav1.TypeMeta{Kind: Kind%s, APIVersion: GroupVersionCurrent}} }\n'%(k,k,k,k))
    out.append('func New%sList() *%sList { return &%sList{TypeMeta: metav1.TypeMeta{Kind: Kind%sList, APIVersion: GroupVersionCurrent}} }\n'%(k,k,k,k))
    for t in(k,k+'List'): out.append('func (in *%s) DeepCopyObject() runtime.Object {\n\tif c := in.DeepCopy(); c != nil {\n\t\treturn c\n\t}\n\treturn nil\n}\n'%t)
for s in structs:
    out.append('func (in *%s) DeepCopyInto(out *%s) { deepCopyInto(in, out) }\n'%(s,s))
    out.append('func (in *%s) DeepCopy() *%s {\n\tif in == nil {\n\t\treturn nil\n\t}\n\tout := new(%s)\n\tin.DeepCopyInto(out)\n\treturn out\n}\n'%(s,s,s))
print("""// Code generated by genapi.py from the CRDs in github.com/projectcalico/calico. Local
// replacement for github.com/projectcalico/api, which is not published as a module.
package v3

import (
	"reflect"
	"time"

	k8sv1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/projectcalico/api/pkg/lib/numorstring"
)

const (
	Group               = "projectcalico.org"
	VersionCurrent      = "v3"
	GroupVersionCurrent = Group + "/" + VersionCurrent

	LabelNamespace      = "projectcalico.org/namespace"
	LabelServiceAccount = "projectcalico.org/serviceaccount"
	LabelOrchestrator   = "projectcalico.org/orchestrator"

	OrchestratorKubernetes = "k8s"
	OrchestratorOpenStack  = "openstack"

	%s
)

type (
	Action                         string
	PolicyType                     string
	PolicyPerformanceHint          string
	EncapMode                      string
	IPIPMode                       string
	VXLANMode                      string
	IPPoolAllowedUse               string
	AWSSrcDstCheckOption           string
	BPFConnectTimeLBType           string
	BPFHostNetworkedNATType        string
	FloatingIPType                 string
	IptablesBackend                = string
	WindowsManageFirewallRulesMode string
	BindMode                       string
	BGPFilterMatchSource           string
	BGPFilterMatchOperator         string
	BGPFilterAction                string
	SourceAddress                  string
	NodeStatusClassType            string
	RouteTableRanges               []RouteTableIDRange
)

// NumDesignatedTables returns the number of tables in the ranges.
func (r RouteTableRanges) NumDesignatedTables() int {
	var n int
	for _, x := range r {
		n += x.Max - x.Min + 1
	}
	return n
}

const (
	Allow Action = "Allow"
	Deny  Action = "Deny"
	Log   Action = "Log"
	Pass  Action = "Pass"

	PolicyTypeIngress PolicyType = "Ingress"
	PolicyTypeEgress  PolicyType = "Egress"

	PerfHintAssumeNeededOnEveryNode PolicyPerformanceHint = "AssumeNeededOnEveryNode"

	IPIPModeNever       IPIPMode = "Never"
	IPIPModeAlways      IPIPMode = "Always"
	IPIPModeCrossSubnet IPIPMode = "CrossSubnet"

	VXLANModeNever       VXLANMode = "Never"
	VXLANModeAlways      VXLANMode = "Always"
	VXLANModeCrossSubnet VXLANMode = "CrossSubnet"

	IPPoolAllowedUseWorkload IPPoolAllowedUse = "Workload"
	IPPoolAllowedUseTunnel   IPPoolAllowedUse = "Tunnel"

	AWSSrcDstCheckOptionDoNothing AWSSrcDstCheckOption = "DoNothing"
	AWSSrcDstCheckOptionEnable    AWSSrcDstCheckOption = "Enable"
	AWSSrcDstCheckOptionDisable   AWSSrcDstCheckOption = "Disable"

	BPFConnectTimeLBTCP      BPFConnectTimeLBType = "TCP"
	BPFConnectTimeLBEnabled  BPFConnectTimeLBType = "Enabled"
	BPFConnectTimeLBDisabled BPFConnectTimeLBType = "Disabled"

	BPFHostNetworkedNATEnabled  BPFHostNetworkedNATType = "Enabled"
	BPFHostNetworkedNATDisabled BPFHostNetworkedNATType = "Disabled"

	Enabled  = "Enabled"
	Disabled = "Disabled"

	FloatingIPsEnabled  FloatingIPType = "Enabled"
	FloatingIPsDisabled FloatingIPType = "Disabled"

	IptablesBackendLegacy   = "Legacy"
	IptablesBackendNFTables = "NFT"
	IptablesBackendAuto     = "Auto"
)

// deepCopyInto copies *in to *out and then every pointer, slice and map that an
// exported field can reach.
func deepCopyInto(in, out interface{}) {
	o := reflect.ValueOf(out).Elem()
	o.Set(reflect.ValueOf(in).Elem())
	unshare(o)
}

func unshare(v reflect.Value) {
	switch v.Kind() {
	case reflect.Ptr:
		if !v.IsNil() {
			n := reflect.New(v.Type().Elem())
			n.Elem().Set(v.Elem())
			unshare(n.Elem())
			v.Set(n)
		}
	case reflect.Slice:
		if !v.IsNil() {
			n := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
			reflect.Copy(n, v)
			for i := 0; i < n.Len(); i++ {
				unshare(n.Index(i))
			}
			v.Set(n)
		}
	case reflect.Map:
		if !v.IsNil() {
			n := reflect.MakeMapWithSize(v.Type(), v.Len())
			for _, k := range v.MapKeys() {
				e := reflect.New(v.Type().Elem()).Elem()
				e.Set(v.MapIndex(k))
				unshare(e)
				n.SetMapIndex(k, e)
			}
			v.Set(n)
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeOf(time.Time{}) {
			return
		}
		for i := 0; i < v.NumField(); i++ {
			if f := v.Field(i); f.CanSet() {
				unshare(f)
			}
		}
	}
}
"""%"\n\t".join(consts))
print("\n".join(out))
