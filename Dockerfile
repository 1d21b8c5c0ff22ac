# The page of `prolab demo` in a container.
#   docker build -t prolab .                                   # CPU
#   docker build -t prolab --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu126 .
#   docker run --rm -p 7860:7860 prolab                        # the bundled everyday model
#   docker run --rm -p 7860:7860 -v $PWD/runs/first:/model:ro prolab --model /model
FROM python:3.11-slim
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 HF_HUB_OFFLINE=1 OMP_WAIT_POLICY=PASSIVE
RUN pip install --index-url "$TORCH_INDEX" torch torchvision
COPY . /tmp/src
RUN pip install '/tmp/src[timm]' && rm -rf /tmp/src && useradd --create-home prolab
USER prolab
WORKDIR /home/prolab
EXPOSE 7860
ENTRYPOINT ["prolab", "demo", "--host", "0.0.0.0", "--port", "7860", "--no-browser"]
CMD ["--model", "everyday"]
