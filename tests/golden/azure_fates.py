"""What becomes of each element and attribute of Azure's schema: the words that show it, in which pair, and where.

A line is ELEMENT or ELEMENT/ATTRIBUTE, the pair's number, and words of its service file (``yaml``) or of its report.
"""

FATES = """
ServiceDefinition/name | 01 | yaml | service: hellocloud
ServiceDefinition/topologyChangeDiscovery | 09 | report | dropped: topologyChangeDiscovery (line 1): UpgradeDomainWalk
ServiceDefinition/upgradeDomainCount | 09 | yaml | upgrade: domains: 5
ServiceDefinition/schemaVersion | 09 | report | dropped: ServiceDefinition/schemaVersion (line 1): 2013-10.2.2
LoadBalancerProbes | 02 | yaml | check:
LoadBalancerProbe/name | 02 | report | dropped: Nobody (line 6): no endpoint uses this probe
LoadBalancerProbe/protocol | 02 | yaml | check: interval: 5s fall: 2
LoadBalancerProbe/path | 02 | yaml | check: path: "/healthz?deep=1"
LoadBalancerProbe/port | 02 | yaml | port: 8081
LoadBalancerProbe/intervalInSeconds | 02 | yaml | interval: 10s
LoadBalancerProbe/timeoutInSeconds | 02 | yaml | interval: 10s fall: 3
WebRole/name | 01 | yaml | # the WebRole WebRole1 webrole1:
WebRole/vmsize | 01 | yaml | # vmsize Small size: vcpus: 1 memory: 1792MiB
WebRole/enableNativeCodeExecution | 08 | report | dropped: web/enableNativeCodeExecution
WorkerRole/name | 06 | yaml | # the WorkerRole cache cache:
WorkerRole/vmsize | 06 | yaml | # vmsize ExtraLarge size: vcpus: 8 memory: 14GiB
WorkerRole/enableNativeCodeExecution | 12 | yaml | # the WorkerRole job
VirtualMachineRole/name | 07 | yaml | # the VirtualMachineRole VMRole vmrole:
VirtualMachineRole/vmsize | 07 | yaml | # vmsize ExtraSmall size: vcpus: 1 memory: 768MiB
Certificates | 02 | yaml | certificates:
Certificate/name | 02 | yaml | name: site secret: store:edge-site
Certificate/storeLocation | 16 | yaml | certificate a cert (CurrentUser/CA
Certificate/storeName | 16 | yaml | trusted_certificates:
Certificate/permissionLevel | 02 | report | dropped: edge/certificate site/permissionLevel (line 9): elevated
Certificate/thumbprint | 02 | yaml | 9427BEFA18EC6865A9EBDC79D4C38DE50E6316FF
Certificate/thumbprintAlgorithm | 02 | yaml | sha1 9427
ConfigurationSettings | 01 | yaml | settings:
Setting/name | 01 | yaml | settings: Greeting:
Setting/value | 11 | yaml | Plain: blue
Imports | 07 | report | dropped: VMRole/Imports/Import
Import/moduleName | 07 | report | moduleName="RemoteForwarder"
InputEndpoints | 15 | yaml | endpoints: httpin: port: 80
Endpoints | 02 | yaml | endpoints: http:
InputEndpoint/name | 02 | yaml | raw: port: 9000
InputEndpoint/protocol | 02 | yaml | port: 443 protocol: https
InputEndpoint/port | 02 | yaml | port: 80
InputEndpoint/localPort | 02 | yaml | target: 8080
InputEndpoint/certificate | 02 | yaml | it needs the certificate site
InputEndpoint/ignoreRoleInstanceStatus | 02 | yaml | ignore_instance_status: true
InputEndpoint/loadBalancerProbe | 02 | yaml | check: path:
InputEndpoint/enableDirectServerReturn | 14 | report | dropped: front/direct (line 8): enableDirectServerReturn
InputEndpoint/idleTimeoutInMinutes | 14 | yaml | idle_timeout: "30m"
InputEndpoint/loadBalancer | 14 | report | decide: front/inner (line 7): was on the internal load balancer ilb
InputEndpoint/loadBalancerDistribution | 14 | yaml | balance: source
InternalEndpoint/name | 03 | yaml | fixed:
InternalEndpoint/protocol | 03 | yaml | protocol: udp visibility: internal
InternalEndpoint/port | 03 | yaml | attribute: target: 8080 protocol: http
InstanceInputEndpoint/name | 04 | yaml | debug:
InstanceInputEndpoint/localPort | 04 | yaml | target: 22 protocol: tcp visibility: instance
InstanceInputEndpoint/protocol | 04 | report | dropped: node/media (line 7): udp is not possible
AllocatePublicPortFrom | 04 | yaml | port: "9100-9109"
FixedPort/port | 03 | yaml | fixed: target: 6379
FixedPortRange/min | 03 | yaml | range: target: "7000-7002"
FixedPortRange/max | 03 | yaml | long: target: "10000-11000"
LocalResources | 06 | yaml | local_storage:
LocalStorage/name | 06 | yaml | scratch: size: 2048MiB mount: /mnt/scratch
LocalStorage/cleanOnRoleRecycle | 06 | yaml | clean_on_reimage: false
LocalStorage/sizeInMB | 06 | yaml | kept: size: 512MiB
LocalStorage/sizeInMb | 15 | yaml | small: size: 128MiB
Runtime/executionContext | 08 | report | dropped: web/Runtime (line 3): executionContext="elevated"
Environment | 08 | report | web/Runtime/Environment/Variable
Variable/name | 08 | report | variable PORT is not set
Variable/value | 08 | yaml | it had the variable PORT = '80 & more'
RoleInstanceValue/xpath | 08 | yaml | ID = the value at /RoleEnvironment/CurrentInstance/@id
EntryPoint | 08 | report | dropped: web/Runtime/EntryPoint/NetFxEntryPoint
NetFxEntryPoint/assemblyName | 08 | report | assemblyName="Web.dll"
NetFxEntryPoint/targetFrameworkVersion | 08 | report | targetFrameworkVersion="v4.0"
ProgramEntryPoint/commandLine | 16 | report | commandLine="worker.exe -v"
ProgramEntryPoint/setReadyOnProcessStart | 16 | report | setReadyOnProcessStart="false"
Sites | 01 | report | dropped: WebRole1/Sites/Site
Site/name | 01 | report | Sites/Site (line 5): name="Web"
Site/physicalDirectory | 01 | report | name="Web" physicalDirectory="..\\web"
VirtualApplication/name | 01 | report | VirtualApplication (line 6): name="shop"
VirtualApplication/physicalDirectory | 01 | report | physicalDirectory="..\\shop"
VirtualDirectory/name | 01 | report | VirtualDirectory (line 7): name="static"
VirtualDirectory/physicalDirectory | 01 | report | physicalDirectory="..\\static"
Bindings | 01 | report | Site/Bindings/Binding
Binding/name | 01 | report | Binding (line 8): name="Endpoint1"
Binding/endpointName | 01 | report | endpointName="Endpoint1"
Binding/hostHeader | 01 | report | hostHeader="www.example.com"
Startup/priority | 08 | report | dropped: web/Startup/priority (line 7): 1
Task/commandLine | 08 | yaml | run: "install.cmd > log.txt 2>&1"
Task/executionContext | 08 | report | changed: web/startup-2 (line 14): runs with all rights
Task/taskType | 08 | report | decide: web/startup-3 (line 15): background task
Contents | 08 | report | dropped: web/Contents/Content
Content/destination | 08 | report | destination="files"
SourceDirectory/path | 08 | report | path="C:\\files"
NetworkTrafficRules | 05 | yaml | traffic:
OnlyAllowTrafficTo | 05 | yaml | - to: back.api from: - front
Destinations | 05 | yaml | to: back.api
RoleEndpoint/endpointName | 05 | yaml | to: back.open
RoleEndpoint/roleName | 05 | yaml | # back/open
AllowAllTraffic | 05 | yaml | from: all
WhenSource/matches | 05 | yaml | from: - front
FromRole/roleName | 05 | yaml | from: - front
ServiceConfiguration/serviceName | 01 | yaml | service: hellocloud
ServiceConfiguration/osFamily | 01 | yaml | image: windows-server-2012-r2
ServiceConfiguration/osVersion | 03 | yaml | image: windows-server-2008-r2
ServiceConfiguration/schemaVersion | 09 | report | dropped: ServiceConfiguration/schemaVersion (line 1): 2013-10.2.2
Role/name | 07 | yaml | vmrole:
Role/vmName | 07 | yaml | hostname: "box-{{ordinal}}"
OsImage/href | 07 | yaml | http://example.blob.core.windows.net/vhds/BaseImage_R2.vhd
Instances/count | 07 | yaml | instances: 5
GuestAgentSettings | 07 | report | dropped: VMRole/GuestAgentSettings (line 14)
guestAgentSettings | 16 | report | dropped: worker/guestAgentSettings
NetworkConfiguration | 09 | report | NetworkConfiguration/VirtualNetworkSite
AccessControls | 09 | report | dropped: NetworkConfiguration/AccessControls
AccessControl/name | 09 | report | AccessControl (line 4): name="acl"
Rule/order | 09 | report | order="100"
Rule/action | 09 | report | action="permit"
Rule/remoteSubnet | 09 | report | remoteSubnet="10.0.0.0/8"
Rule/description | 09 | report | description="us"
EndpointAcls | 09 | report | dropped: NetworkConfiguration/EndpointAcls
EndpointAcl/role | 09 | report | EndpointAcl (line 5): role="web"
EndpointAcl/endpoint | 09 | report | endpoint="web"
EndpointAcl/endPoint | 14 | report | endPoint="http"
EndpointAcl/accessControl | 09 | report | accessControl="acl"
Dns | 09 | yaml | dns:
DnsServers | 09 | yaml | dns: servers:
DnsServer/name | 09 | report | changed: ours (line 6)
DnsServer/IPAddress | 09 | yaml | "10.1.1.1"
VirtualNetworkSite/name | 09 | report | VirtualNetworkSite (line 7): name="net"
AddressAssignments | 09 | report | dropped: AddressAssignments/InstanceAddress
InstanceAddress/roleName | 09 | report | InstanceAddress (line 9): roleName="web"
Subnets | 09 | report | InstanceAddress/Subnets/Subnet
Subnet/name | 09 | report | Subnet (line 9): name="front"
PublicIPs | 09 | report | InstanceAddress/PublicIPs/PublicIP
PublicIP/name | 09 | report | PublicIP (line 9): name="own"
PublicIP/domainNameLabel | 09 | report | domainNameLabel="web"
PublicIP/idleTimeoutInMinutes | 14 | report | idleTimeoutInMinutes="10"
ReservedIPs | 09 | report | dropped: AddressAssignments/ReservedIPs
ReservedIP/name | 09 | report | ReservedIP (line 10): name="vip"
LoadBalancers | 14 | report | dropped: NetworkConfiguration/LoadBalancers
LoadBalancer/name | 14 | report | LoadBalancer (line 19): name="ilb"
FrontendIPConfiguration/type | 14 | report | type="private"
FrontendIPConfiguration/subnet | 14 | report | subnet="front-subnet"
FrontendIPConfiguration/staticVirtualNetworkIPAddress | 14 | report | staticVirtualNetworkIPAddress="10.0.0.9"
"""


def fates() -> dict[str, tuple[str, str, str]]:
    """ELEMENT or ELEMENT/ATTRIBUTE → (pair's number, ``yaml`` or ``report``, words)."""
    rows = [line.split("|", 3) for line in FATES.strip().splitlines()]
    return {name.strip(): (pair.strip(), where.strip(), words.strip()) for name, pair, where, words in rows}
