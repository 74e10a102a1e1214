#!/bin/sh
# A certificate for commentanalyzer.googleapis.com, signed by an authority of your own: sh make-certificate.sh [FOLDER]
#
# Trust ca.pem in the one client that is to be led here, and nowhere else: NODE_EXTRA_CA_CERTS=ca.pem (Node),
# REQUESTS_CA_BUNDLE or SSL_CERT_FILE (Python), update-ca-certificates (in its container). Whoever holds ca.key can speak
# for any host to that client, so it is removed at once.
set -eu
folder=${1:-certificates}
host=commentanalyzer.googleapis.com
mkdir -p "$folder"
cd "$folder"
umask 077
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 825 -subj "/CN=moderation's own authority" \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign -keyout ca.key -out ca.pem
openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=$host" -keyout host.key -out host.csr
printf 'subjectAltName=DNS:%s\nextendedKeyUsage=serverAuth\nbasicConstraints=CA:FALSE\n' "$host" > host.ext
openssl x509 -req -in host.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 825 -extfile host.ext -out host.pem
rm -f ca.key ca.srl host.csr host.ext
chmod 644 ca.pem host.pem
echo "$folder/ca.pem for the client; $folder/host.pem and $folder/host.key for nginx"
