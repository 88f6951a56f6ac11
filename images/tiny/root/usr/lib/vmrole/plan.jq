# Turns the seed's three files ($meta, $user, $network: text) into one shell
# script, which vmrole-setup reads: calls of its functions, every value quoted.

# Mistakes become a call of "problem" and an empty value.
def words: map(tostring | @sh) | join(" ");
def call($name; args): "\($name) \(args | words)";

# A value by its JSON text; YAML's simplest form ("key: value" lines) does for
# meta-data that other tools wrote.
def lines_of($text): $text | split("\n") | map(capture("^(?<key>[A-Za-z_-]+): *(?<value>[^ ].*)$")) | from_entries;
def read($text): try ($text | fromjson) catch lines_of($text);

# One entry of runcmd or bootcmd, with a name for messages; a script that has a
# name of its own (sh -c SCRIPT NAME ...) is not told as a whole.
def command($kind):
    if type == "array" then
        map(tostring) as $words |
        call("command"; [$kind, ($words[if $words[:2] == ["sh", "-c"] and length > 3 then 3 else 0 end:] | join(" "))] + $words)
    elif type == "string" then call("command"; [$kind, ., "sh", "-c", .])
    elif . == null then empty
    else call("problem"; ["\($kind): neither text nor a list: \(tojson)"]) end;

def list($what): if . == null then [] elif type == "array" then . else [.] end;

def file:
    if (type != "object") or (.path | type != "string") then
        call("problem"; ["write_files: an entry has no path: \(tojson)"])
    else
        (.encoding // "text" | ascii_downcase) as $encoding |
        (if ["b64", "base64"] | index($encoding) then "base64"
         elif ["gz", "gzip", "gz+b64", "gz+base64", "gzip+b64", "gzip+base64"] | index($encoding) then "gzip"
         elif ["text", "text/plain"] | index($encoding) then "text"
         else null end) as $kind |
        if $kind == null then call("problem"; ["write_files: \(.path): unknown encoding \($encoding)"])
        else call("file"; [.path, (.owner // "root:root"), (.permissions // "0644" | tostring),
                           (if .append == true then "append" else "replace" end), $kind,
                           (if $kind == "text" then (.content // "" | tostring | @base64) else .content end)])
        end
    end;

def nic($name):
    (.addresses // []) as $addresses |
    call("nic"; [."set-name" // $name, (.match.macaddress // "" | ascii_downcase),
        (if (.dhcp4 == true) or ($addresses | length == 0) then "dhcp" else "static" end)]),
    ($addresses[] | call("address"; [if type == "object" then keys[0] else . end])),
    (if .gateway4 then call("route"; ["default", .gateway4]) else empty end),
    ((.routes // [])[] | call("route"; [if .to == "0.0.0.0/0" then "default" else .to end, .via])),
    ((.nameservers.addresses // [])[] | call("nameserver"; [.])),
    ((.nameservers.search // []) | if length > 0 then call("search"; [join(" ")]) else empty end);

def network:
    if $network == "" then call("nic"; ["eth0", "", "dhcp"])
    else ($network | try fromjson catch null) as $config |
        ($config | if type == "object" then (.network // .) else {} end) as $config |
        if ($config.ethernets | type) == "object" then $config.ethernets | to_entries[] | .key as $key | .value | nic($key)
        else call("problem"; ["network-config: not version 2 in JSON"]), call("nic"; ["eth0", "", "dhcp"]) end
    end;

def config:
    if ($user | test("^#cloud-config[ \\t]*\\r?(\\n|$)")) then
        ($user | sub("^#cloud-config[^\\n]*\\n?"; "")) as $body |
        if ($body | test("^\\s*$")) then {}
        else try ($body | fromjson | if type == "object" then . else error("not an object") end)
             catch {problem: "user-data: not JSON after #cloud-config: \(.)"} end
    elif ($user | startswith("#!")) then {script: $user}
    elif ($user | test("^\\s*$")) then {}
    else {problem: "user-data: starts neither with #cloud-config nor with #!"} end;

read($meta) as $m | ($m.vmrole // {}) as $v | config as $c |
($c.fqdn // $c.hostname // $m."local-hostname" // "" | split(".")[0] // "") as $host |
call("identity"; [$m."instance-id" // "", $host]),
call("page"; ["\($v.instance // $host) generation \($v.generation // 0) of \($v.service // "no service") (\($v.slot // "no slot"))"]),
"plan_network() { :", network, "}",
"plan_boot() { :", (if $c.problem then call("problem"; [$c.problem]) else empty end),
($c.bootcmd | list("bootcmd")[] | command("bootcmd")), "}",
"plan_files() { :",
(([$c.ssh_authorized_keys // [] | list("keys")[]] + [$c.users // [] | list("users")[] | objects | select(.name == "root") | .ssh_authorized_keys // [] | list("keys")[]]
  + [$m."public-keys" // [] | if type == "object" then .[] else list("keys")[] end | strings]) | map(select(type == "string")) | unique | if length > 0 then call("keys"; .) else empty end),
($c.write_files | list("write_files")[] | file), "}",
"COMMANDS=\($c.runcmd | list("runcmd") | length)",
"plan_commands() { :", ($c.runcmd | list("runcmd")[] | command("runcmd")),
(if $c.script then call("script"; [$c.script | @base64]) else empty end), "}"
