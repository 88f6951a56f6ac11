# In place of the guest agent, on its own channel: one kind of hostility after the other, each for SECONDS.
# Started as `busybox sh hostile SECONDS` (dash has no `read -t`); what it is at is on the console.
PATH=/usr/sbin:/usr/bin:/sbin:/bin
port=/dev/virtio-ports/org.qemu.guest_agent.0
sleep 3
sv -w 5 force-stop /etc/service/qemu-ga

filled() { head -c "$1" /dev/zero | tr '\0' "$2"; }
string() { printf '{"return":"'; filled "$1" A; printf '"}\n'; }

answer() {
    case $1 in
    bytewise)
        printf '{"return":{"buf-b64":"MTIzNDU2","count":6}}\n' | sed 's/./&\n/g' | while read -r byte; do
            printf %s "$byte"
            sleep 0.1
        done ;;
    big-3.9M) string 4089446 ;;
    big-4.1M) string 4299162 ;;
    big-11M) string 11534336 ;;
    invalid-utf8) printf '{"return":"\377\376\300\257"}\n' ;;
    deep) printf '{"return":'; filled 100000 '['; filled 100000 ']'; printf '}\n' ;;
    ansi) printf '{"error":{"class":"GenericError","desc":"\\u001b[31mred\\u001b]0;mine\\u0007\\r\\nfake: ready"}}\n' ;;
    lists)
        printf '{"return":['
        yes '{"name":"eth0","ip-addresses":[{"ip-address":"198.18.0.1"}]},' | head -n 10000 | tr -d '\n'
        printf '0]}\n' ;;
    esac
}

serve() {
    kind=$1
    end=$(($(date +%s) + $2))
    exec 3<>$port
    while [ "$(date +%s)" -lt $end ]; do
        if [ "$kind" = flapping ]; then
            exec 3>&-
            sleep 0.1
            exec 3<>$port
            continue
        fi
        read -r -t 1 line <&3 || continue
        id=$(printf %s "$line" | sed -n 's/.*"id": *\([0-9]*\).*/\1/p')
        case $kind,$id in
        silent,*) ;;
        wrong-id,?*) printf '{"return": %s}\n' $((id + 1)) >&3 ;;
        *,) answer "$kind" >&3 ;;
        *) printf '{"return": %s}\n' "$id" >&3 ;;
        esac
    done
    exec 3>&-
}

for kind in silent bytewise big-3.9M big-4.1M invalid-utf8 deep ansi wrong-id flapping lists big-11M; do
    echo "hostile: $kind" >/dev/ttyS0
    serve $kind "$1"
done
echo "hostile: over" >/dev/ttyS0
