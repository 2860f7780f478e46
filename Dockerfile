# Serves the model that is mounted at /model; see docs/serving.md.
FROM python:3.12-slim

# The compiler makes the CPU kernels when the server first starts; without it XLA's are used, more slowly.
RUN apt-get update && apt-get install --yes --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*

COPY . /source
RUN pip install --no-cache-dir "/source[serve]" && rm -rf /source

RUN useradd --create-home server
USER server
EXPOSE 8000
HEALTHCHECK --start-period=120s CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health')"]
ENTRYPOINT ["mqsa-jax", "serve", "--host", "0.0.0.0"]
CMD ["--model", "/model"]
