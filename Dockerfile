# Both programs in one image, `directory` and `peer`, and nothing else but the C library and the authorities of the web.
# The compose file chooses. Built without BuildKit too.

# Set it where images come from a mirror.
ARG BUILD_IMAGE=rust:1-slim-bookworm

# Of the sources only what Cargo reads to find out which dependencies there are; empty programs take the place of ours.
# This stage is made anew whenever anything changes; what it holds is not another for that, and so the next one stays.
FROM ${BUILD_IMAGE} AS manifests
WORKDIR /manifests
COPY Cargo.toml Cargo.lock ./
COPY crates crates
RUN find crates -type f ! -name Cargo.toml ! -path '*/src/main.rs' ! -path '*/src/lib.rs' ! -name build.rs -delete \
    && find crates -type d -empty -delete \
    && echo 'fn main() {}' >empty && find crates -name '*.rs' -exec cp empty {} \; \
    && find crates -name lib.rs -exec cp /dev/null {} \; && rm empty

FROM ${BUILD_IMAGE} AS build
WORKDIR /build
COPY --from=manifests /manifests ./
RUN cargo build --release --locked -p directory -p peer && rm -rf crates

COPY proto proto
COPY .env.example ./
COPY crates crates
# Newer than what was built from the empty sources.
RUN find crates -name '*.rs' -exec touch {} + && cargo build --release --locked -p directory -p peer

# The image, as a folder: the programs, what they are linked with, and what the C library reads to find names.
WORKDIR /image
RUN mkdir -p usr/local/bin etc/ssl/certs tmp /owned/data && chmod 1777 tmp \
    && cp /build/target/release/directory /build/target/release/peer usr/local/bin/ \
    && strip --strip-debug usr/local/bin/* \
    && ldd usr/local/bin/* | grep -o '/[^ :]*\.so[^ ]*' | sort -u | xargs cp -L --parents -t . \
    && cp -L /etc/ssl/certs/ca-certificates.crt etc/ssl/certs/ \
    && echo 'hosts: files dns' >etc/nsswitch.conf \
    && echo 'trueque:x:1000:1000::/data:/sbin/nologin' >etc/passwd \
    && echo 'trueque:x:1000:' >etc/group

FROM scratch
COPY --from=build /image /
COPY --from=build --chown=1000:1000 /owned /
ENV PATH=/usr/local/bin SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
USER 1000:1000
# Everything that lasts: ./data, ./share and ./downloads of the settings lie in it.
WORKDIR /data
VOLUME /data
CMD ["peer"]
