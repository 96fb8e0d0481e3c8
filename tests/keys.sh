#!/bin/sh
# SPDX-License-Identifier: MIT
# Certificates and keys for tests of TLS, made now: an authority, and another one; a server, a client,
# one that is both, a server whose time is over, one that is both whose time is to come, one that is both and
# revoked; lists of those revoked, one that is out of date, and one of the other authority; files of keys.
#
# usage: keys.sh FOLDER. Exits with 77, and says why, where the tools are not there.
set -u
for tool in certtool psktool; do
    command -v $tool >/dev/null || { echo "no $tool (Debian: gnutls-bin)"; exit 77; }
done
cd "$1" || exit 1

quietly() {
    "$@" >log 2>&1 || { sed 's/^/# /' log; echo "the test's own keys could not be made: $*"; exit 1; }
}

# new NAME TEMPLATE-LINE...
new() {
    name=$1
    shift
    printf '%s\n' "$@" >"$name.cfg"
    quietly certtool --generate-privkey --key-type=ecdsa --outfile "$name.key"
}

# signed NAME AUTHORITY
signed() {
    quietly certtool --generate-certificate --template "$1.cfg" --load-privkey "$1.key" \
        --load-ca-certificate "$2.pem" --load-ca-privkey "$2.key" --outfile "$1.pem"
}

# revoked_by AUTHORITY LIST TEMPLATE-LINE...
revoked_by() {
    authority=$1 list=$2
    shift 2
    printf '%s\n' "$@" >"$list.cfg"
    quietly certtool --generate-crl --template "$list.cfg" --load-ca-privkey "$authority.key" \
        --load-ca-certificate "$authority.pem" --load-certificate revoked.pem --outfile "$list.pem"
}

for name in ca other; do
    new $name "cn = authority $name" ca cert_signing_key crl_signing_key 'expiration_days = 2'
    quietly certtool --generate-self-signed --template "$name.cfg" --load-privkey "$name.key" --outfile "$name.pem"
done
new server 'cn = server' 'dns_name = host.test' tls_www_server signing_key 'expiration_days = 2'
new client 'cn = client' 'dns_name = client.test' tls_www_client signing_key 'expiration_days = 2'
new both 'cn = both' 'dns_name = host.test' tls_www_server tls_www_client signing_key 'expiration_days = 2'
new old 'cn = old' 'dns_name = host.test' tls_www_server signing_key \
    'activation_date = "2001-01-01 00:00:00"' 'expiration_date = "2002-01-01 00:00:00"'
new foreign 'cn = foreign' 'dns_name = host.test' tls_www_server tls_www_client signing_key 'expiration_days = 2'
new early 'cn = early' 'dns_name = host.test' tls_www_server tls_www_client signing_key \
    'activation_date = "2101-01-01 00:00:00"' 'expiration_date = "2102-01-01 00:00:00"'
new revoked 'cn = revoked' 'dns_name = host.test' tls_www_server tls_www_client signing_key 'expiration_days = 2'
for name in server client both old early revoked; do
    signed $name ca
done
signed foreign other
revoked_by ca crl 'crl_next_update = 2'
revoked_by ca crl-old 'crl_this_update_date = "2001-01-01 00:00:00"' 'crl_next_update_date = "2002-01-01 00:00:00"'
revoked_by other crl-other 'crl_next_update = 2'
quietly psktool --username=migration --keysize=32 --pskfile=psk
quietly psktool --username=migration --keysize=32 --pskfile=psk-other
quietly psktool --username=stranger --keysize=32 --pskfile=psk-stranger
exit 0
