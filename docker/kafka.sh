#!/usr/bin/env bash
# A single-node Apache Kafka (KRaft, no ZooKeeper) on loopback, from the jars of Maven Central, for tests and demos.
#
#   docker/kafka.sh start PORT DIR                    start a broker with its data in DIR; prints 127.0.0.1:PORT
#   docker/kafka.sh stop DIR [kill]                   stop it (kill: at once, as a crash would)
#   docker/kafka.sh topic PORT NAME [PARTITIONS]      create a topic
#   docker/kafka.sh delete PORT NAME                  delete a topic
#   docker/kafka.sh produce PORT TOPIC [OPTION…]      send each line of standard input (options of kafka-console-producer)
#
# PORT+1 is taken by the controller. Started again with the same DIR it keeps its data. Needs Java 17 and, the first
# time, Maven: exit 3 says which is missing. Jars are kept under ${XDG_CACHE_HOME:-$HOME/.cache}/highwater/kafka.
set -euo pipefail

KAFKA_VERSION=3.9.1
START_SECONDS_MAX=60
STOP_SECONDS_MAX=20

say() { echo "kafka.sh: $*" >&2; }

usage() {
    sed -n '4,8s/^#   //p' "$0" >&2
    exit 2
}

missing() {
    say "$1 was not found; install it, for instance: apt-get install -y $2"
    exit 3
}

require_java() {
    command -v java >/dev/null || missing java openjdk-17-jre-headless
    local major
    major=$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -1)
    if [ "${major:-0}" -lt 11 ]; then
        say "java ${major:-of an unknown version} is too old: Kafka $KAFKA_VERSION needs 11 or newer"
        exit 3
    fi
}

# Prints the directory of the jars, after fetching them if they are not there.
jars() {
    local cache="${XDG_CACHE_HOME:-$HOME/.cache}/highwater/kafka"
    local lib="$cache/$KAFKA_VERSION"
    if [ ! -e "$lib/complete" ]; then
        command -v mvn >/dev/null || missing mvn maven
        mkdir -p "$cache"
        local work
        work=$(mktemp -d "$cache/fetch.XXXXXX")
        cat >"$work/pom.xml" <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>highwater</groupId>
  <artifactId>kafka-jars</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$KAFKA_VERSION</version></dependency>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>$KAFKA_VERSION</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
POM
        say "fetching Kafka $KAFKA_VERSION from Maven Central into $lib"
        if ! mvn -q -B -f "$work/pom.xml" -Dmdep.includeScope=runtime -DoutputDirectory="$work/lib" \
            dependency:copy-dependencies >"$work/mvn.log" 2>&1; then
            tail -20 "$work/mvn.log" >&2
            rm -rf "$work"
            say "could not fetch Kafka from Maven Central"
            exit 4
        fi
        # Another binding of the same logging front would only warn.
        rm -f "$work"/lib/slf4j-reload4j-*.jar "$work"/lib/reload4j-*.jar
        touch "$work/lib/complete"
        # Whoever comes second at the same time keeps the first one's.
        mv -T "$work/lib" "$lib" 2>/dev/null || [ -e "$lib/complete" ]
        rm -rf "$work"
    fi
    echo "$lib"
}

# run_java LOG_LEVEL CLASS ARGUMENTS…
run_java() {
    local level=$1 lib
    shift
    lib=$(jars)
    java -Xmx2g -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Dorg.slf4j.simpleLogger.defaultLogLevel="$level" \
        -cp "$lib/*" "$@"
}

# Prints the pid of the broker that runs in DIR, if one does.
running_pid() {
    local dir=$1 pid
    pid=$(cat "$dir/kafka.pid" 2>/dev/null) || return 1
    # The number may belong to somebody else by now.
    tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF "$dir/server.properties" || return 1
    echo "$pid"
}

start() {
    local port=$1 dir lib pid
    require_java
    mkdir -p "$2"
    dir=$(cd "$2" && pwd)
    if pid=$(running_pid "$dir"); then
        say "a broker already runs in $dir (pid $pid)"
        exit 1
    fi
    lib=$(jars)
    cat >"$dir/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$((port + 1))
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$((port + 1))
advertised.listeners=PLAINTEXT://127.0.0.1:$port
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$dir/data
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
group.initial.rebalance.delay.ms=0
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=2000
num.network.threads=2
num.io.threads=2
background.threads=2
log.cleaner.dedupe.buffer.size=8388608
log.cleaner.enable=true
message.max.bytes=300000000
replica.fetch.max.bytes=300000000
socket.request.max.bytes=320000000
PROPERTIES
    if [ ! -e "$dir/data/meta.properties" ]; then
        run_java warn kafka.tools.StorageTool format --cluster-id aGlnaHdhdGVyLWthZmth \
            --config "$dir/server.properties" >"$dir/format.log" 2>&1 || {
            cat "$dir/format.log" >&2
            exit 1
        }
    fi
    : >"$dir/kafka.log"
    # Big enough for a message of 256 MiB, small to begin with.
    setsid java -Xms64m -Xmx1g -XX:TieredStopAtLevel=1 -XX:+UseSerialGC \
        -Dorg.slf4j.simpleLogger.defaultLogLevel=info -Dorg.slf4j.simpleLogger.showDateTime=true \
        -cp "$lib/*" kafka.Kafka "$dir/server.properties" >>"$dir/kafka.log" 2>&1 </dev/null &
    pid=$!
    echo "$pid" >"$dir/kafka.pid"
    local deadline=$((SECONDS + START_SECONDS_MAX))
    until grep -q "Kafka Server started" "$dir/kafka.log" && (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
        if ! kill -0 "$pid" 2>/dev/null; then
            grep -iE "error|exception|in use" "$dir/kafka.log" | tail -10 >&2 || true
            say "the broker did not start; see $dir/kafka.log"
            exit 1
        fi
        if [ "$SECONDS" -ge "$deadline" ]; then
            kill -9 "$pid"
            say "the broker did not answer within $START_SECONDS_MAX s; see $dir/kafka.log"
            exit 1
        fi
        sleep 0.1
    done
    echo "127.0.0.1:$port"
}

stop() {
    local dir pid
    dir=$(cd "$1" && pwd)
    pid=$(running_pid "$dir") || return 0
    if [ "${2:-}" = kill ]; then kill -9 "$pid"; else kill "$pid"; fi
    local deadline=$((SECONDS + STOP_SECONDS_MAX))
    while running_pid "$dir" >/dev/null; do
        if [ "$SECONDS" -ge "$deadline" ]; then kill -9 "$pid" 2>/dev/null || true; fi
        sleep 0.1
    done
    rm -f "$dir/kafka.pid"
}

[ $# -ge 2 ] || usage
command=$1
shift
case "$command" in
start) [ $# -eq 2 ] || usage; start "$@" ;;
stop) stop "$@" ;;
topic)
    require_java
    run_java error org.apache.kafka.tools.TopicCommand --bootstrap-server "127.0.0.1:$1" --create --topic "$2" \
        --partitions "${3:-1}" --replication-factor 1
    ;;
delete)
    require_java
    run_java error org.apache.kafka.tools.TopicCommand --bootstrap-server "127.0.0.1:$1" --delete --topic "$2"
    ;;
produce)
    require_java
    server=$1 name=$2
    shift 2
    run_java error kafka.tools.ConsoleProducer --bootstrap-server "127.0.0.1:$server" --topic "$name" \
        --request-timeout-ms 60000 --producer-property max.request.size=300000000 --producer-property buffer.memory=600000000 "$@"
    ;;
*) usage ;;
esac
