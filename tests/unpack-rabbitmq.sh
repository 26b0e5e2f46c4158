#!/usr/bin/env bash
# Unpack another version of RabbitMQ beside the installed one: that of another release of Debian. On Debian, as root.
#
#   tests/unpack-rabbitmq.sh [FOLDER [RELEASE]]     default: /opt/rabbitmq-4 trixie, which has RabbitMQ 4.0
#
# Afterwards TEST_RABBITMQ_COMMANDS=FOLDER lets the tests use it. Nothing outside the folder changes, but for debootstrap
# being installed where it is missing. Safe to repeat; rm -r FOLDER takes it away.
set -euo pipefail
folder=$(realpath --canonicalize-missing "${1:-/opt/rabbitmq-4}")
release=${2:-trixie}

if [ "$(id -u)" != 0 ]; then
    echo "debootstrap and chroot need root." >&2
    exit 1
fi
command -v debootstrap > /dev/null || { apt-get update -qq && apt-get install --yes -qq debootstrap; }

if [ ! -e "$folder/root" ]; then
    # The mirror is the one that this machine's own packages come from; without one, it is debootstrap's default.
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' \
        "Codename: $(. /etc/os-release && echo "${VERSION_CODENAME:-}")" | head -n 1)
    mkdir -p "$folder"
    rm -rf --one-file-system "$folder/unfinished"
    debootstrap --variant=minbase --include=rabbitmq-server "$release" "$folder/unfinished" ${mirror:+"$mirror"}
    mv "$folder/unfinished" "$folder/root"
fi

cat > "$folder/rabbitmq-server" <<'END'
#!/bin/sh
# Runs the command of its own name that is unpacked beside it. In a mount namespace of its own, which shares the
# directory for temporary files, where the tests keep the node's.
exec unshare --mount sh -c '
    command=$1 root=$2 shared=$3 && shift 3 && mkdir -p "$root$shared" &&
    mount --bind "$shared" "$root$shared" && mount -t proc proc "$root/proc" &&
    exec chroot "$root" env PATH=/usr/lib/rabbitmq/bin:/usr/sbin:/usr/bin:/sbin:/bin "$command" "$@"
' sh "${0##*/}" "$(dirname "$(readlink -f "$0")")/root" "${TMPDIR:-/tmp}" "$@"
END
chmod +x "$folder/rabbitmq-server"
for command in rabbitmqctl epmd; do
    ln -sf rabbitmq-server "$folder/$command"
done
echo "RabbitMQ $("$folder/rabbitmqctl" version) is unpacked. Use it with TEST_RABBITMQ_COMMANDS=$folder"
