# Runs a browser that cannot outlive its runner.
#
#   sh watchdog.sh DIRECTORY BROWSER [ARGUMENT...]
#
# Standard input is a pipe whose other end only the runner holds. However the runner ends, by SIGKILL too, the kernel
# closes that end; `read` returns, and the browser's whole process group is killed and its directory removed.
# Standard output is the runner's DevTools connection, and belongs to the browser as descriptors 3 and 4. This shell closes its
# own copy, so that the runner sees the connection end with the browser.
# The browser has a session of its own, so that this shell is not in the group it kills; with `setpriv` at hand the
# browser also dies with this shell, should somebody kill that first.
directory=$1
shift
command -v setpriv >/dev/null 2>&1 && set -- setpriv --pdeathsig KILL "$@"
setsid "$@" </dev/null 3<&1 4>&1 >"$directory/browser.log" 2>&1 &
browser=$!
exec >/dev/null
echo "$browser" >"$directory/browser.pid"
read -r _
kill -KILL "-$browser" "$browser" 2>/dev/null
wait "$browser" 2>/dev/null
rm -rf "$directory"
