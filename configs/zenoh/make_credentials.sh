#!/usr/bin/env bash
# Makes what the zenoh configurations beside this file need, into a folder that nothing else can read.
#   make_credentials.sh lab   [DIR]         users with random passwords        (DIR: credentials/lab)
#   make_credentials.sh plant [DIR] [HOST]  an authority and certificates      (DIR: credentials/plant, HOST: localhost)
# For each of controller, operator and viewer it writes NAME.json5, to be given as `--zenoh`; for the robot robot.json5.
# Keep DIR out of version control. On each computer belong its own files, ca.pem, and never ca.key. Needs openssl.
set -euo pipefail
umask 077
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
kind=${1:-}
dir=${2:-credentials/$kind}
host=${3:-localhost}
users=(controller operator viewer)

if [[ $kind != lab && $kind != plant ]]; then
    sed -n '2,6s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
    exit 2
fi
if [[ -e $dir ]]; then
    echo "$dir is there already: remove it, or name another folder" >&2
    exit 1
fi
mkdir -p "$dir"

# certificate NAME EXTENSION: a key and a certificate of the authority, valid for a year.
certificate() {
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout "$dir/$1.key" -out "$dir/$1.csr" \
        -subj "/CN=$1" 2>/dev/null
    openssl x509 -req -in "$dir/$1.csr" -CA "$dir/ca.pem" -CAkey "$dir/ca.key" -CAcreateserial -days 365 \
        -out "$dir/$1.pem" -extfile <(printf 'basicConstraints=CA:FALSE\n%s\n' "$2") 2>/dev/null
    rm "$dir/$1.csr"
}

if [[ $kind == lab ]]; then
    for user in "${users[@]}"; do
        password=$(openssl rand -hex 24)
        echo "$user:$password" >>"$dir/users.txt"
        sed -e "s|@USER@|$user|; s|@PASSWORD@|$password|" "$here/lab/peer.json5" >"$dir/$user.json5"
    done
else
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout "$dir/ca.key" -out "$dir/ca.pem" \
        -days 3650 -subj "/CN=robots of this plant" -addext "basicConstraints=critical,CA:TRUE" \
        -addext "keyUsage=critical,keyCertSign,cRLSign" 2>/dev/null
    name=DNS
    [[ $host =~ ^[0-9.]+$ || $host == *:* ]] && name=IP
    certificate robot "$(printf 'subjectAltName=%s:%s\nextendedKeyUsage=serverAuth' "$name" "$host")"
    for user in "${users[@]}"; do
        certificate "$user" extendedKeyUsage=clientAuth
        sed -e "s|@USER@|$user|; s|@DIR@|$dir|" "$here/plant/peer.json5" >"$dir/$user.json5"
    done
fi
sed -e "s|credentials/$kind|$dir|" "$here/$kind/robot.json5" >"$dir/robot.json5"
echo "made $dir for the robot and for ${users[*]}"
