# The runner: one attempt of one bot per container. Platforms of containers start it; nothing is to be set here, as the
# deployer puts the attempt's environment in. Built by deploy/docker/build, from a binary that is there already.
#
# It runs with a read-only root, a tmpfs on /tmp, no capabilities and no new privileges. Where the host does not let
# Chromium make its sandbox (user namespaces), GREENROOM_SANDBOX=off starts it without. `check` as its argument says whether
# it works here.

# Pinned by whoever builds for others: debian:bookworm-slim@sha256:… or what deploy/docker/build made where nothing can be pulled.
ARG BASE=debian:bookworm-slim
FROM ${BASE}

# A day of Debian's archive (20261101T000000Z), for the same packages every time; empty: those of today.
ARG SNAPSHOT=
COPY deploy/docker/install-packages /usr/local/sbin/install-packages
# The browser, what it writes with, and ffmpeg for images that are made from this one.
RUN SNAPSHOT="${SNAPSHOT}" install-packages ca-certificates chromium ffmpeg fonts-dejavu-core fonts-noto-color-emoji tini

RUN export SOURCE_DATE_EPOCH=1000000000 \
    && groupadd --gid 10001 bot \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin bot \
    && rm -f /etc/passwd- /etc/group- /etc/shadow- /etc/gshadow- /etc/subuid- /etc/subgid-

ARG BINARIES=prebuilt
COPY ${BINARIES}/greenroom-bot /usr/local/bin/greenroom-bot
ENV CHROMIUM=/usr/bin/chromium
# How it is started ahead of its bot: platforms that keep containers warm look for it.
LABEL dev.greenroom.warm="wait"
LABEL org.opencontainers.image.title="greenroom-bot" org.opencontainers.image.licenses="Apache-2.0"
USER 10001:10001
WORKDIR /tmp
# tini passes SIGTERM on, by which a platform asks the bot to leave its meeting, and takes in what the browser leaves.
ENTRYPOINT ["tini", "--", "greenroom-bot"]
