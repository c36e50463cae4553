# A template image: any RunPod image, with idlewatch in it.
#
#     docker build -t me/pytorch-guarded .
#     docker build -t me/comfy-guarded --build-arg BASE=me/comfy:latest .
#
# The base needs Python 3.11 or newer with pip, and is otherwise left as it is: two layers more, 23 MiB.
#
# Settings are variables of the template; none has to be set. The usual ones:
#     IDLEWATCH_IDLE_AFTER=30m            quiet time before the warning
#     IDLEWATCH_MODE=observe              decide and record, act on nothing: for the first days
#     IDLEWATCH_MAX_UPTIME=12h            a hard ceiling
#     IDLEWATCH_RUNPOD_API_KEY={{ RUNPOD_SECRET_idlewatch }}   where the Pod's own key may not stop it
# All of them, with their meaning: systemd/idlewatch.env, or `idlewatch settings` in the Pod. Keys do not belong in here.
#
# In an image of your own, instead: COPY --from=me/pytorch-guarded /opt/idlewatch /opt/idlewatch, and the CMD below; the
# interpreter that both images have must be the same (3.11 or newer).

ARG BASE=runpod/pytorch:1.0.7-cu1281-torch280-ubuntu2404

FROM ${BASE} AS build
# The base's own interpreter, 3.11 or newer; /opt/idlewatch links to it.
ARG PYTHON=python3
# What pip installs, and how: without a network `--no-index --find-links /src/wheels` and SOURCE=idlewatch.
ARG SOURCE=/src
ARG PIP_OPTIONS=
COPY . /src
# What `idlewatch --version` says: --build-arg COMMIT=$(git rev-parse HEAD).
ARG COMMIT=
# Beside the base's packages, never among them; `lay_here` takes from there what is needed, without pip.
RUN ${PYTHON} -m pip install --no-cache-dir --no-compile --target /build ${PIP_OPTIONS} ${SOURCE} \
 && echo "${COMMIT}" > /build/idlewatch/commit \
 && PYTHONPATH=/build ${PYTHON} -P -c \
    "from pathlib import Path; from idlewatch.host import tree; tree.lay_here(Path('/opt/idlewatch'))" \
 && /opt/idlewatch/bin/idlewatch --version
# Beside it: the command in everybody's PATH, and for programs in the user's own Python `from idlewatch.hold import hold`,
# which is standard library only, and not in `pip list`.
RUN into="/beside$(${PYTHON} -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/idlewatch" \
 && mkdir -p "$into" /beside/usr/local/bin \
 && cp -r /build/idlewatch/__init__.py /build/idlewatch/hold.py /build/idlewatch/callbacks "$into" \
 && ln -s /opt/idlewatch/bin/idlewatch /beside/usr/local/bin/idlewatch

FROM ${BASE}
LABEL org.opencontainers.image.title="idlewatch" \
      org.opencontainers.image.description="Stops the GPU Pod that nobody uses, after saving what the stop would wipe" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /opt/idlewatch /opt/idlewatch
COPY --from=build /beside/ /
# The base's ENTRYPOINT stays (NVIDIA's ends with `exec "$@"`), and so does its command, below ours. In a Serverless worker
# `idlewatch exec` says so once and is replaced by the command.
# No HEALTHCHECK: RunPod does not look at it, and an engine that does would end the user's work for idlewatch's sake.
CMD ["/opt/idlewatch/bin/idlewatch", "exec", "--", "/start.sh"]
