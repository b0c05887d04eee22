# Functions of the scripts that start nodes; sourced at the root of the repository.

# Processes started by start_node that stop_nodes has not ended yet.
nodes=()

# built PROFILE NAME: the absolute path of a program of a finished build.
built() {
    local program
    program=$(realpath -m "${CARGO_TARGET_DIR:-target}/$1/$2")
    [ -x "$program" ] || { echo "$program is missing; the make target of this duty builds it" >&2; return 2; }
    echo "$program"
}

# free_ports COUNT: ports of loopback that are free at this moment. Needs python3.
free_ports() {
    python3 -c 'import socket, sys
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
print(*[listener.getsockname()[1] for listener in held])' "$1"
}

# member_list RAFT_PORT... HTTP_PORT...: the value of --members for servers on loopback.
member_list() {
    local ports=("$@") count=$(($# / 2)) members= id
    for ((id = 1; id <= count; id++)); do
        members+=${members:+,}$id=127.0.0.1:${ports[id - 1]}/127.0.0.1:${ports[count + id - 1]}
    done
    echo "$members"
}

# start_node LOG PROGRAM OPTION..: starts a node whose log goes to a file.
start_node() {
    local log=$1
    shift
    "$@" 2>"$log" &
    nodes+=($!)
}

# Ends the nodes in order and waits for them.
stop_nodes() {
    local node
    for node in "${nodes[@]}"; do kill -TERM "$node" 2>/dev/null || true; done
    for node in "${nodes[@]}"; do wait "$node" 2>/dev/null || true; done
    nodes=()
}

# Whether every node still runs.
nodes_run() {
    local node
    for node in "${nodes[@]}"; do kill -0 "$node" 2>/dev/null || return 1; done
}

# succeeds URL [CURL OPTION..]: whether the answer to a GET is a success.
succeeds() { curl -sf -o /dev/null --max-time 1 "$@"; }

# wait_for URL [CURL OPTION..]: waits up to 60 s until the answer is a success. Fails at once when a
# node ends.
wait_for() {
    local end=$((SECONDS + 60))
    while [ $SECONDS -lt $end ]; do
        succeeds "$@" && return
        nodes_run || { echo "a node has ended" >&2; return 1; }
        sleep 0.1
    done
    echo "no success from $1" >&2
    return 1
}

# invite URL [CURL OPTION..]: says how to try a node by hand.
invite() {
    local url=$1
    shift
    cat <<END
  curl -i $*${*:+ }-d '{"hello":"world"}' -H 'Content-Type: application/json' -H 'ES-EventType: greeted' -H "ES-EventId: \$(cat /proc/sys/kernel/random/uuid)" $url/streams/first
END
}
