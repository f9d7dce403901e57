#!/usr/bin/env bash
# How docker-compose.yml starts RabbitMQ: puts the files beside this one into their places, asks the directory for its
# public key, and goes on as the image does. All of it in a folder that is empty at every start.
set -euo pipefail
from=$(dirname "${BASH_SOURCE[0]}") to=/etc/rabbitmq

mkdir -p "$to/conf.d"
cp "$from/trueque.conf" "$from/trueque-tokens.conf" "$to/conf.d/"
cp "$from/definitions.json" "$to/trueque-definitions.json"
echo '[rabbitmq_auth_backend_oauth2].' >"$to/enabled_plugins"

# The image has no curl.
key() {
    local directory
    exec {directory}<>"/dev/tcp/${TRUEQUE_DIRECTORY%:*}/${TRUEQUE_DIRECTORY##*:}" || return
    printf 'GET /v1/broker/key.pem HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' "$TRUEQUE_DIRECTORY" >&"$directory"
    sed '1,/^\r$/d' <&"$directory"
}
until key 2>/dev/null >"$to/trueque-broker.pem" && grep -q 'BEGIN PUBLIC KEY' "$to/trueque-broker.pem"; do
    echo "The directory at $TRUEQUE_DIRECTORY does not give its key; asking again." >&2
    sleep 2
done
exec docker-entrypoint.sh "$@"
