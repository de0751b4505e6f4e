# Runs PostgreSQL for as long as standard input stays open, so that it ends with the program that started it, however
# that ends. $1: postgres, $2: the signal that stops it, $3: a folder to remove at the end or nothing; then its arguments.
set -u
postgres=$1
signal=$2
scratch=$3
shift 3
exec 3<&0
"$postgres" "$@" </dev/null 3<&- &
server=$!
(
    read -r _ <&3
    kill "-$signal" "$server"
    sleep 30
    kill -QUIT "$server"
) &
watcher=$!
trap '' INT TERM HUP
wait "$server"
status=$?
kill "$watcher" 2>/dev/null
if [ -n "$scratch" ]; then
    rm -rf "$scratch"
fi
exit "$status"
