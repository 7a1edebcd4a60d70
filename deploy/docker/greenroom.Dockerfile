# Greenroom's services: `greenroom`, with all of them in it, and the command line. Built by deploy/docker/build, from binaries
# that are there already: docs/images-and-sbom.md says why, and what is the same in every build.

# Pinned by whoever builds for others: debian:bookworm-slim@sha256:… or what deploy/docker/build made where nothing can be pulled.
ARG BASE=debian:bookworm-slim
FROM ${BASE}

# A day of Debian's archive (20261101T000000Z), for the same packages every time; empty: those of today.
ARG SNAPSHOT=
COPY deploy/docker/install-packages /usr/local/sbin/install-packages
# ffmpeg joins the parts of recordings; certificates are for whoever speaks TLS to Postgres or a collector.
RUN SNAPSHOT="${SNAPSHOT}" install-packages ca-certificates ffmpeg tini

# A user by number, so that a cluster can see that it is not root.
RUN export SOURCE_DATE_EPOCH=1000000000 \
    && groupadd --gid 10001 greenroom \
    && useradd --uid 10001 --gid 10001 --home-dir /var/lib/greenroom --no-create-home --shell /usr/sbin/nologin greenroom \
    && install -d -o greenroom -g greenroom /var/lib/greenroom /var/lib/greenroom/recordings /var/lib/greenroom/local \
    && rm -f /etc/passwd- /etc/group- /etc/shadow- /etc/gshadow- /etc/subuid- /etc/subgid-

ARG BINARIES=prebuilt
COPY ${BINARIES}/greenroom /usr/local/bin/greenroom
LABEL org.opencontainers.image.title="greenroom" org.opencontainers.image.licenses="Apache-2.0"
USER 10001:10001
WORKDIR /var/lib/greenroom
EXPOSE 8460 8461 8462
ENTRYPOINT ["tini", "--", "greenroom"]
CMD ["serve", "all"]
