# shellcheck shell=bash disable=SC2034  # the variables are used by the scripts
# Shared by install, backup, restore, rotate-key and uninstall: the paths of an installation and the steps on it.
# With DESTDIR (for tests and packagers), everything is below that folder, and no user is changed.

root=${DESTDIR:-}
home=$root/opt/ridges-proxy
etc=$root/etc/ridges-proxy
keys=$etc/keys
state=$root/var/lib/ridges-proxy
logs=$root/var/log/ridges-proxy
backups=$root/var/backups/ridges-proxy
units=$root/etc/systemd/system
sysusers=$root/etc/sysusers.d
bin=$root/usr/local/bin
user=ridges-proxy

say() { printf '%s\n' "$*"; }
fail() { printf '%s\n' "$*" >&2; exit 1; }

# Print the comment at the head of a script, up to its first empty line: it is the text of --help.
help_of() { sed -n '2,/^$/s/^# \{0,1\}//p' "$1"; }

need_root() { [ -n "$root" ] || [ "$(id -u)" = 0 ] || fail "This needs root: sudo $0"; }

# Resolve `current` once, so that all steps use the same release, even during an upgrade.
need_release() {
    release=$(readlink -e "$home/current") || fail "There is no release at $home/current. deploy/install makes one."
}

# Fail if deploy/install or one of these scripts is running: none expects the files to change meanwhile.
lock() {
    exec 9>"$home/lock"
    flock -n 9 || fail "Another installation, restore or change of a key is running."
}

# Run a command with the user and the settings of the service. Root never opens a file in the folder of the
# service by its name: the service could have put a symbolic link there. A setting in root's own environment does
# not count: the service does not have it.
as_service() {
    local settings=("SETTINGS_FILE=$etc/env" "CREDENTIALS_DIRECTORY=$keys" "HOME=$state")
    (
        cd "$state" || exit
        [ -z "$root" ] || exec env "${settings[@]}" "$@"
        exec setpriv --reuid="$user" --regid="$user" --init-groups -- env -i "PATH=$PATH" "${settings[@]}" "$@"
    )
}

# Set `ledger` and `outbox` to the files of the service; `outbox` is empty if there is none.
find_ledger() {
    local paths
    # -I: no module is loaded from the folder of the service.
    paths=$(as_service "$release/.venv/bin/python" -I -c '
from ridges_proxy.config import LedgerSettings, SettingsError, load_settings, read_environment
try:
    settings = load_settings(LedgerSettings, read_environment())
except SettingsError as error:
    raise SystemExit(str(error))
print(settings.ledger_url, settings.ledger_outbox or "", sep="\n")') || exit 1
    ledger=$(head -n 1 <<<"$paths") outbox=$(tail -n +2 <<<"$paths")
    case $ledger in
        sqlite://*) ledger=${ledger#sqlite:///} ;;
        memory:*) fail "LEDGER_URL is memory://, which has no file: what runs have spent ends with the server." ;;
        *) fail "LEDGER_URL is a Redis. Copy and restore its own files (redis-cli BGSAVE, or BGREWRITEAOF)," \
            "with the servers of the proxy stopped during a restore. Then run: ridges-proxy ledger verify" ;;
    esac
    ledger=$(as_service realpath -m -- "$ledger")
    [ -z "$outbox" ] || outbox=$(as_service realpath -m -- "$outbox")
}

# Print the ids of the processes that have the file open. Servers that were replaced finish their calls, and
# no unit shows them.
users_of() {
    local name
    name=$(sed 's/[][*?\\]/\\&/g' < <(printf '%s' "$1")) # for find, it is a pattern
    # A process that ends during the search is an error of find, and no reason to stop.
    { find /proc/[0-9]*/fd -type l \( -lname "$name" -o -lname "$name-wal" -o -lname "$name-shm" \) \
        -printf '%h\n' 2>/dev/null || true; } | cut -d / -f 3 | sort -un | xargs
}

# Wait until a command prints nothing, at most as long as a server may take to stop (TimeoutStopSec=).
wait_until_empty() {
    local pids limit=$((SECONDS + ${WAIT_SECONDS:-400})) told=
    while pids=$("$@") || return 1; [ -n "$pids" ]; do
        [ -n "$told" ] || say "Waiting for servers that finish their calls: processes $pids"
        told=yes
        [ "$SECONDS" -lt "$limit" ] || return 1
        sleep 0.5
    done
}

is_running() { systemctl is-active --quiet ridges-proxy.service; }
stop_service() { systemctl stop ridges-proxy.socket ridges-proxy.service; }
start_service() { systemctl start ridges-proxy.socket ridges-proxy.service; }
