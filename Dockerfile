# Both programs in one image: `directory` and `peer`. The compose file chooses.

FROM rust:1-slim-bookworm AS build
# A C compiler, for SQLite and the cryptography.
RUN apt-get update && apt-get install -y --no-install-recommends build-essential && rm -rf /var/lib/apt/lists/*
WORKDIR /build

# The dependencies, in a layer of their own: it stays while the manifests do. The sources are empty here.
COPY Cargo.toml Cargo.lock ./
COPY crates/content/Cargo.toml crates/content/
COPY crates/daemon/Cargo.toml crates/daemon/
COPY crates/directory/Cargo.toml crates/directory/
COPY crates/peer/Cargo.toml crates/peer/
COPY crates/testnet/Cargo.toml crates/testnet/
COPY crates/wire/Cargo.toml crates/wire/
RUN for crate in crates/*; do mkdir "$crate/src" && touch "$crate/src/lib.rs"; done \
    && echo "fn main() {}" | tee crates/wire/build.rs crates/directory/src/main.rs >crates/peer/src/main.rs \
    && cargo build --release --locked -p directory -p peer \
    && rm -rf crates

COPY proto proto
COPY crates crates
# Newer than what was built from the empty sources.
RUN find crates -name '*.rs' -exec touch {} + && cargo build --release --locked -p directory -p peer

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home trueque && install -d -o trueque -g trueque /data
COPY --from=build /build/target/release/directory /build/target/release/peer /usr/local/bin/
USER trueque
# Everything that lasts: ./data, ./share and ./downloads of the settings lie in it.
WORKDIR /data
VOLUME /data
CMD ["peer"]
