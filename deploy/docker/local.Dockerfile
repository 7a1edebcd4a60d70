# Greenroom's services and a runner with its browser beside them: for a deployer of a `local` platform in a container.
# Built by deploy/docker/build on top of greenroom.Dockerfile's image.

ARG BASE=greenroom
FROM ${BASE}
USER root
ARG SNAPSHOT=
RUN SNAPSHOT="${SNAPSHOT}" install-packages chromium fonts-dejavu-core fonts-noto-color-emoji
ARG BINARIES=prebuilt
COPY ${BINARIES}/greenroom-bot /usr/local/bin/greenroom-bot
ENV CHROMIUM=/usr/bin/chromium
LABEL org.opencontainers.image.title="greenroom-local"
USER 10001:10001
CMD ["serve", "deployer"]
