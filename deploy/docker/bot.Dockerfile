# The runner: one attempt of one bot per container. Platforms of containers start it; nothing is to be set here, as the
# deployer puts the attempt's environment in.
#
#   docker build -f deploy/docker/bot.Dockerfile -t greenroom-bot .
#
# It runs with a read-only root, a tmpfs on /tmp, no capabilities and no new privileges. Where the host does not let
# Chromium make its sandbox (user namespaces), GREENROOM_SANDBOX=off starts it without.

FROM rust:1.95-slim-bookworm AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --release -p greenroom-bot --bins \
    && cp target/release/greenroom-bot /greenroom-bot

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates chromium fonts-dejavu-core fonts-noto-color-emoji tini \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 bot \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin bot
COPY --from=build /greenroom-bot /usr/local/bin/greenroom-bot
ENV CHROMIUM=/usr/bin/chromium
USER 10001:10001
WORKDIR /tmp
# tini passes SIGTERM on, by which a platform asks the bot to leave its meeting, and takes in what the browser leaves.
ENTRYPOINT ["tini", "--", "greenroom-bot"]
