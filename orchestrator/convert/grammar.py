"""What a service definition and a service configuration may say, element by element, as Microsoft published it.

A line is an element, its attributes (``!``: has to be there; ``:kind`` if it is not any text) and its children
(``*``: any number of them, else one at most). ``any`` in place of attributes: nothing is made of them.
"""

from __future__ import annotations

from dataclasses import dataclass

_BOTH_PROTOCOLS = "protocol!:tcp|udp"
_DEFINITION = f"""
ServiceDefinition | name! topologyChangeDiscovery:blast|upgradedomainwalk upgradeDomainCount:1-20 schemaVersion | \
LoadBalancerProbes WebRole* WorkerRole* VirtualMachineRole* NetworkTrafficRules
LoadBalancerProbes |  | LoadBalancerProbe*
LoadBalancerProbe | name! protocol!:http|tcp path port:port intervalInSeconds:5-2147483647 \
timeoutInSeconds:11-2147483647 |
WebRole | name! vmsize enableNativeCodeExecution:bool | Certificates ConfigurationSettings Imports Endpoints \
InputEndpoints LocalResources LocalStorage* Runtime Sites Startup Contents
WorkerRole | name! vmsize enableNativeCodeExecution:bool | Certificates ConfigurationSettings Imports Endpoints \
InputEndpoints LocalResources LocalStorage* Runtime Startup Contents
VirtualMachineRole | name! vmsize | Certificates ConfigurationSettings Imports \
Endpoints LocalResources LocalStorage* Runtime Startup
Certificates |  | Certificate*
Certificate | name! storeLocation!:currentuser|localmachine storeName! \
permissionLevel:limitedorelevated|elevated |
ConfigurationSettings |  | Setting*
Setting | name! |
Imports |  | Import*
Import | moduleName! |
InputEndpoints |  | InputEndpoint* InternalEndpoint*
Endpoints |  | InputEndpoint* InternalEndpoint* InstanceInputEndpoint*
InputEndpoint | name! protocol!:http|https|tcp|udp port!:port localPort:port* certificate \
ignoreRoleInstanceStatus:bool loadBalancerProbe enableDirectServerReturn:bool idleTimeoutInMinutes:4-30 \
loadBalancer loadBalancerDistribution:sourceip|sourceipprotocol|none |
InternalEndpoint | name! protocol!:http|https|tcp|udp|any port:port* | FixedPort FixedPortRange
InstanceInputEndpoint | name! localPort!:port {_BOTH_PROTOCOLS} | AllocatePublicPortFrom!
AllocatePublicPortFrom |  | FixedPortRange!
FixedPort | port!:port |
FixedPortRange | min!:port max!:port |
LocalResources |  | LocalStorage*
LocalStorage | name! cleanOnRoleRecycle:bool sizeInMB:1-67108864 sizeInMb:1-67108864 |
Runtime | executionContext:limited|elevated | Environment EntryPoint
Environment |  | Variable*
Variable | name! value | RoleInstanceValue
RoleInstanceValue | xpath |
EntryPoint |  | NetFxEntryPoint ProgramEntryPoint
NetFxEntryPoint | assemblyName! targetFrameworkVersion! |
ProgramEntryPoint | commandLine! setReadyOnProcessStart:bool |
Sites |  | Site*
Site | name! physicalDirectory | VirtualApplication* VirtualDirectory* Bindings
VirtualApplication | name! physicalDirectory | VirtualApplication* VirtualDirectory*
VirtualDirectory | name! physicalDirectory | VirtualDirectory*
Bindings |  | Binding*
Binding | name! endpointName! hostHeader |
Startup | priority:0-2147483647 | Task*
Task | commandLine! executionContext:limited|elevated taskType:simple|foreground|background | Environment
Contents |  | Content*
Content | destination! | SourceDirectory
SourceDirectory | path! |
NetworkTrafficRules |  | OnlyAllowTrafficTo*
OnlyAllowTrafficTo |  | Destinations! AllowAllTraffic WhenSource
Destinations |  | RoleEndpoint*
RoleEndpoint | endpointName! roleName! |
AllowAllTraffic |  |
WhenSource | matches:anyrule | FromRole*
FromRole | roleName! |
"""
_CONFIGURATION = """
ServiceConfiguration | serviceName! osFamily:1-7 osVersion schemaVersion | Role* NetworkConfiguration
Role | name! vmName | OsImage Instances! ConfigurationSettings Certificates GuestAgentSettings guestAgentSettings
OsImage | href! |
Instances | count!:0-1000000 |
ConfigurationSettings |  | Setting*
Setting | name! value! |
Certificates |  | Certificate*
Certificate | name! thumbprint! thumbprintAlgorithm! |
GuestAgentSettings | any |
guestAgentSettings | any |
NetworkConfiguration |  | AccessControls EndpointAcls Dns VirtualNetworkSite AddressAssignments \
LoadBalancers
AccessControls |  | AccessControl*
AccessControl | name! | Rule*
Rule | order! action!:permit|deny remoteSubnet! description |
EndpointAcls |  | EndpointAcl*
EndpointAcl | role! endpoint endPoint accessControl! |
Dns |  | DnsServers
DnsServers |  | DnsServer*
DnsServer | name! IPAddress!:ipv4 |
VirtualNetworkSite | name! |
AddressAssignments |  | InstanceAddress* ReservedIPs
InstanceAddress | roleName! | Subnets PublicIPs
Subnets |  | Subnet*
Subnet | name! |
PublicIPs |  | PublicIP*
PublicIP | name! domainNameLabel idleTimeoutInMinutes:4-30 |
ReservedIPs |  | ReservedIP*
ReservedIP | name! |
LoadBalancers |  | LoadBalancer*
LoadBalancer | name! | FrontendIPConfiguration!
FrontendIPConfiguration | type!:private|public subnet staticVirtualNetworkIPAddress:ipv4 |
"""


@dataclass(frozen=True, slots=True)
class Attribute:
    """``kind``: "" (any text), bool, ipv4, port, ``port*`` (a port or ``*``), ``LOW-HIGH``, or words with | between."""

    kind: str
    is_needed: bool


@dataclass(frozen=True, slots=True)
class Rule:
    """``attributes`` None: any. ``children``: name → whether there may be many."""

    attributes: dict[str, Attribute] | None
    children: dict[str, bool]
    needed: tuple[str, ...]


def _rule(attributes: str, children: str) -> Rule:
    known: dict[str, Attribute] | None = None if attributes.strip() == "any" else {}
    for word in attributes.split() if known is not None else ():
        name, _, kind = word.partition(":")
        if known is not None:
            known[name.rstrip("!")] = Attribute(kind, name.endswith("!"))
    words = children.split()
    needed = tuple(word[:-1] for word in words if word.endswith("!"))
    return Rule(known, {word.rstrip("*!"): word.endswith("*") for word in words}, needed)


def _grammar(text: str) -> dict[str, Rule]:
    rows = (f"{line} ".split(" | ") for line in text.strip("\n").split("\n"))
    return {name.strip(): _rule(attributes, children) for name, attributes, children in rows}


DEFINITION = _grammar(_DEFINITION)
CONFIGURATION = _grammar(_CONFIGURATION)
