# The server, without torch, with the compact English model: `docker build -t moderation .`. For another bundle mount it
# at /bundle and set MODERATION_MODEL=/bundle.
FROM python:3.11-slim AS build

WORKDIR /source
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
COPY requirements-image.txt ./
RUN python -m venv /venv && /venv/bin/pip install --require-hashes -r requirements-image.txt
COPY pyproject.toml README.md LICENSE NOTICE model_training.py ./
COPY moderation moderation
# setuptools is there to build the package, and gone afterwards.
RUN /venv/bin/pip install --no-deps --no-build-isolation . && /venv/bin/pip uninstall --yes setuptools

FROM python:3.11-slim

RUN useradd --system --uid 10001 --no-create-home moderation \
    && install --directory --owner=moderation /data
COPY --from=build /venv /venv

# /data is the only place that is written to, beside /tmp: moderators' decisions, in a volume.
USER 10001
WORKDIR /data
VOLUME /data
ENV PATH=/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ORT_DISABLE_TELEMETRY=1 \
    MODERATION_HOST=0.0.0.0 \
    MODERATION_PORT=8000 \
    MODERATION_KEYS=/run/secrets/moderation_keys \
    MODERATION_FEEDBACK_URL=sqlite:////data/feedback.db
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{os.environ[\"MODERATION_PORT\"]}/readyz', timeout=2)"]
ENTRYPOINT ["moderation"]
CMD ["serve"]
