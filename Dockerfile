# syntax=docker/dockerfile:1

# Two stages: the Go tool chain builds one static program, and the image that runs holds nothing else but a shell for the
# health check.
FROM golang:1.26.8 AS build
WORKDIR /src
# The modules change less often than the code, so they are a layer of their own.
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o /out/civicbus ./cmd/civicbus

FROM alpine:3.22.1
RUN apk add --no-cache ca-certificates tzdata \
 && adduser -D -H -u 65532 civicbus \
 && install -d -o civicbus -g civicbus /var/lib/civicbus
COPY --from=build /out/civicbus /usr/local/bin/civicbus
USER 65532:65532
WORKDIR /var/lib/civicbus
VOLUME /var/lib/civicbus
# In a container the listener must be open to the others; the embedded cluster is not for containers.
ENV CIVICBUS_HTTP_LISTEN=:9644 CIVICBUS_LOG_FORMAT=json
EXPOSE 9644
# Ready means: every table is recovered and its lease held. Recovery of large tables may take minutes.
HEALTHCHECK --interval=10s --timeout=3s --start-period=5m --start-interval=2s CMD wget -q -O /dev/null http://127.0.0.1:9644/readyz
ENTRYPOINT ["civicbus"]
CMD ["run"]
