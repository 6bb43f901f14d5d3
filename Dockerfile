# One file for all services: docker build --build-arg SERVICE=svc_ingest -t qraft/svc-ingest .
# Only the service and the packages it needs are installed, and of those only files whose hash requirements.txt names.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

# Every pinned file, checked by hash. The same layer for all services.
FROM ${PYTHON_IMAGE} AS wheels
COPY requirements.txt /build/
RUN pip download --no-cache-dir --no-deps --require-hashes --only-binary :all: \
      --dest /build/wheels --requirement /build/requirements.txt

FROM wheels AS build
ARG SERVICE
RUN test -n "${SERVICE}" || { echo "expected --build-arg SERVICE=svc_<name>"; exit 1; }
RUN pip install --no-cache-dir --no-index --find-links /build/wheels hatchling editables
COPY libs /build/libs
COPY ${SERVICE} /build/${SERVICE}
# The index is off: the resolver can only choose out of the checked files, one version each.
RUN pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /build/own \
      /build/libs/* "/build/${SERVICE}" \
    && python -m venv /app \
    && /app/bin/pip install --no-cache-dir --no-index --find-links /build/wheels --find-links /build/own "${SERVICE}" \
    && /app/bin/pip uninstall --yes --quiet pip setuptools

FROM ${PYTHON_IMAGE}
ARG SERVICE
# LightGBM's wheel expects the system's OpenMP library.
RUN if [ "${SERVICE}" = svc_train ]; then \
      apt-get update && apt-get install --yes --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*; \
    fi
# The volume of lake and artefacts takes its owner from this folder.
RUN groupadd --gid 10001 qraft && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin qraft \
    && install -d -o 10001 -g 10001 /var/lib/qraft
COPY --from=build /app /app
ENV PATH=/app/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    NUMBA_CACHE_DIR=/tmp/numba \
    QRAFT_HOME=/var/lib/qraft \
    QRAFT_HTTP_HOST=0.0.0.0 \
    QRAFT_HTTP_PORT=8080 \
    SERVICE=${SERVICE}
USER 10001:10001
WORKDIR /var/lib/qraft
EXPOSE 8080
STOPSIGNAL SIGTERM
CMD ["sh", "-c", "exec python -m \"${SERVICE}\""]
