#!/bin/sh
# A certificate for commentanalyzer.googleapis.com, signed by an authority of your own: sh make-certificate.sh [FOLDER]
#
# Trust ca.pem only in the one client that you redirect here: NODE_EXTRA_CA_CERTS=ca.pem (Node),
# REQUESTS_CA_BUNDLE or SSL_CERT_FILE (Python), update-ca-certificates (in its container). With the key of ca.pem
# anyone could impersonate this host to that client, so the key stays in a temporary folder that is removed at the end.
# ca.pem is not valid for any other host.
set -eu
folder=${1:-certificates}
host=commentanalyzer.googleapis.com
any4=0.0.0.0/0.0.0.0 any6=0:0:0:0:0:0:0:0/0:0:0:0:0:0:0:0
mkdir -p -- "$folder"
umask 077
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
trap 'exit 1' HUP INT TERM
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 825 -subj "/CN=moderation's own authority" \
    -addext basicConstraints=critical,CA:TRUE,pathlen:0 -addext keyUsage=critical,keyCertSign \
    -addext "nameConstraints=critical,permitted;DNS:$host,excluded;IP:$any4,excluded;IP:$any6" \
    -keyout "$work/ca.key" -out "$work/ca.pem"
openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=$host" \
    -keyout "$work/host.key" -out "$work/host.csr"
printf 'subjectAltName=DNS:%s\nextendedKeyUsage=serverAuth\nbasicConstraints=CA:FALSE\n' "$host" > "$work/host.ext"
openssl x509 -req -in "$work/host.csr" -CA "$work/ca.pem" -CAkey "$work/ca.key" -CAcreateserial -days 825 \
    -extfile "$work/host.ext" -out "$work/host.pem"
chmod 644 "$work/ca.pem" "$work/host.pem"
for name in ca.pem host.pem host.key; do
    rm -f -- "$folder/$name" # otherwise an old file would keep its permissions, and a link its target
    mv -- "$work/$name" "$folder/$name"
done
echo "$folder/ca.pem for the client; $folder/host.pem and $folder/host.key for nginx"
