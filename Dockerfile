# relay, its locked libraries, and nobody's rights. Rules are in /etc/relay, the database in /data.
#
#   docker build -t relay .
#   docker run -p 8080:8080 --env-file relay.env -v relay-data:/data -v "$PWD/rules.toml:/etc/relay/rules.toml:ro" relay

FROM python:3.13-slim AS build
WORKDIR /src
COPY .ci/lock .ci/lock
RUN python -m venv --without-pip /opt/relay && pip --python /opt/relay/bin/python install --no-cache-dir --require-hashes -r .ci/lock
COPY pyproject.toml README.md rules.toml ./
COPY relay relay
RUN pip wheel --no-cache-dir --no-deps --wheel-dir wheels . && pip --python /opt/relay/bin/python install --no-cache-dir --no-deps wheels/relay-*.whl

FROM python:3.13-slim
COPY --from=build /opt/relay /opt/relay
COPY rules.toml /etc/relay/rules.toml
# The folder that X-Pkg's uploads come from, as rules.toml has it, and the one that the database is in.
RUN mkdir /etc/relay/packages && install -d -o 10001 -g 10001 /data
ENV PATH=/opt/relay/bin:$PATH RELAY_RULES=/etc/relay/rules.toml RELAY_DB=sqlite:////data/relay.db RELAY_PORT=8080
VOLUME ["/etc/relay", "/data"]
USER 10001:10001
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=15s \
  CMD ["python", "-c", "import http.client, os; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['RELAY_PORT']), timeout=4); c.request('GET', '/readyz'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["relay"]
CMD ["serve", "--host", "0.0.0.0"]
