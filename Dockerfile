# The image of the proxy: `docker build --tag ridges-proxy .`. deploy/CONTAINERS.md describes its operation.
#
# The digest of the base image (an index of all platforms) fixes its content. To renew it with the tag:
#   docker buildx imagetools inspect python:3.13-slim-trixie

FROM python:3.13.15-slim-trixie@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b AS base

FROM base AS build
WORKDIR /src
COPY requirements.txt requirements-build.txt ./
# Each file must have one of the listed hashes. Only wheels are used, so that no stage needs a compiler.
RUN python3 -m venv /opt/ridges-proxy && \
    /opt/ridges-proxy/bin/pip install --no-cache-dir --require-hashes --only-binary=:all: -r requirements.txt
RUN python3 -m venv /opt/build && \
    /opt/build/bin/pip install --no-cache-dir --require-hashes --only-binary=:all: -r requirements-build.txt
COPY pyproject.toml README.md LICENSE ./
COPY ridges_proxy ridges_proxy
RUN /opt/build/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheel . && \
    /opt/ridges-proxy/bin/pip install --no-cache-dir --no-index --no-deps /wheel/*.whl && \
    /opt/ridges-proxy/bin/pip uninstall --yes pip

FROM base
# The numbers are fixed, because the owners of volumes are numbers (fsGroup in deploy/kubernetes).
RUN groupadd --gid 10001 ridges-proxy && \
    useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/ridges-proxy \
        --shell /usr/sbin/nologin ridges-proxy && \
    install -d -o 10001 -g 10001 -m 0700 /var/lib/ridges-proxy
COPY --from=build /opt/ridges-proxy /opt/ridges-proxy
# The service reads each key from a file with the name of its setting in CREDENTIALS_DIRECTORY.
# GRACEFUL_TIMEOUT_SECONDS is longer than any call, so that a stop cuts off none (deploy/production.env has the sum).
# The program that starts the container must wait longer than that before it kills.
ENV PATH=/opt/ridges-proxy/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 \
    CREDENTIALS_DIRECTORY=/run/secrets \
    LEDGER_URL=sqlite:////var/lib/ridges-proxy/ledger.db \
    LEDGER_OUTBOX=/var/lib/ridges-proxy/outbox.db \
    GRACEFUL_TIMEOUT_SECONDS=380 \
    PORT=8000
WORKDIR /var/lib/ridges-proxy
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s \
    CMD python -c "from http.client import HTTPConnection; \
        connection = HTTPConnection('127.0.0.1', 8000, timeout=4); connection.request('GET', '/ready'); \
        raise SystemExit(connection.getresponse().status != 200)"
ENTRYPOINT ["ridges-proxy"]
CMD ["serve"]
