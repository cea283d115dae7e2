# The engine alone. Config is mounted at /config, where to connect comes from the environment.
FROM rust:1.95-bookworm AS build
WORKDIR /build
COPY Cargo.toml Cargo.lock ./
COPY src src
# The example that `dev --sample` carries in the binary.
COPY pipelines pipelines
COPY schemas schemas
COPY lookups lookups
COPY samples samples
# The database's tables, which the binary carries as well.
COPY migrations migrations
RUN cargo build --release --locked --bin biplane

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --no-create-home biplane
COPY --from=build /build/target/release/biplane /usr/local/bin/biplane
USER biplane
ENV BIPLANE_CONFIG=/config BIPLANE_LISTEN=0.0.0.0:8686
EXPOSE 8686
ENTRYPOINT ["biplane"]
CMD ["run"]
