"""The demo's server on a free loopback port with a tiny real model: what it answers, and what it refuses."""

import base64
import hashlib
import http.client
import io
import json
import logging
import re
import socket
import struct
import threading
import urllib.error
import urllib.request
import zlib
from contextlib import contextmanager

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from prolab_hf.cli import run
from prolab_hf.data.scenes import SCENE_DESCRIPTIONS
from prolab_hf.demo import DemoServer, DemoSession, requests
from prolab_hf.demo.session import MAX_IMAGES, NUM_SAMPLES
from prolab_hf.evaluation.inference import segment
from prolab_hf.explanation.contributions import explain
from prolab_hf.explanation.figures import HEAT


@contextmanager
def running(session, **options):
    with DemoServer(session, **options) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class Client:
    """A visitor with cookies of their own; answers are (status, headers, content)."""

    def __init__(self, server):
        self.url = server.url
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())

    def send(self, path, content=None, *, method=None, kind=None, **headers):
        if isinstance(content, dict):
            content, kind = json.dumps(content).encode(), kind or "application/json"
        headers |= {"Content-Type": kind or "image/png"} if content is not None else {}
        request = urllib.request.Request(self.url + path, content, headers, method=method)
        try:
            answer = self.opener.open(request, timeout=20)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            return answer.status, answer.headers, answer.read()

    def get(self, path, content=None, **options):
        status, headers, body = self.send(path, content, **options)
        assert status == 200, body
        assert headers.get_content_type() == "application/json"
        return json.loads(body)

    def refusal(self, path, content=None, **options):
        status, headers, body = self.send(path, content, **options)
        assert headers.get_content_type() == "application/json"
        error = json.loads(body)
        assert list(error) == ["error"] and "\n" not in error["error"], error
        return status, error["error"]


@pytest.fixture
def model(make_model):
    return make_model()


@pytest.fixture
def session(model, processor):
    return DemoSession(model, processor, name="tiny")


@pytest.fixture
def client(session):
    with running(session) as server:
        yield Client(server)


@pytest.fixture(scope="module")
def refusing(make_model, processor):
    """A client whose requests are all refused, so that one server serves them."""
    with running(DemoSession(make_model(), processor)) as server:
        yield Client(server)


def as_file(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def opened(uri):
    kind, _, data = uri.partition(";base64,")
    image = Image.open(io.BytesIO(base64.b64decode(data, validate=True)))
    assert kind == f"data:image/{image.format.lower()}"
    return image


def labels_of(result):
    runs = np.array(result["runs"]).reshape(-1, 2)
    return np.repeat(runs[:, 0], runs[:, 1]).reshape(result["height"], result["width"])


def test_the_page_loads_nothing_else(refusing):
    status, headers, body = refusing.send("")
    page = body.decode()
    assert status == 200 and headers.get_content_type() == "text/html"
    markup = re.sub(r"<script>.*</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"""(src|href)\s*=\s*["']?(?!data:)[^"'\s>]""", markup), "no file beside the page"
    assert not re.search(r"(https?|wss?|ftp)://|url\(|@import|[\"'`(]//", page), (
        "no address of another server"
    )
    assert "innerHTML" not in page and "insertAdjacentHTML" not in page and "document.write" not in page
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'" and policy["connect-src"] == "'self'"
    for tag in ("script", "style"):
        content = page.split(f"<{tag}>")[1].split(f"</{tag}>")[0]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert policy[f"{tag}-src"] == f"'sha256-{digest}'"
    assert refusing.send("", method="HEAD")[2] == b""


def test_segmentation_is_that_of_segment(client, model, processor, image):
    result = client.get("api/pictures", as_file(image))
    expected = segment(model, processor, image)
    np.testing.assert_array_equal(labels_of(result), expected.labels.numpy())
    names = [one["name"] for one in client.get("api/state")["classes"]]
    assert [(names[k], share) for k, share in result["shares"]] == expected.shares()
    assert opened(result["image"]).size == image.size
    painted = opened(result["overlay"])
    assert painted.width * image.height == painted.height * image.width, "enlarged, without a legend"
    again = client.get(f"api/pictures/{result['picture']}")
    assert again == {name: value for name, value in result.items() if name != "image"}


def test_uploads_are_upright_and_reduced(client, image, model, processor):
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = client.get("api/pictures", as_file(image, "JPEG", exif=exif), kind="image/jpeg")
    assert (turned["width"], turned["height"]) == (image.height, image.width)
    session = DemoSession(model, processor, max_side=64)
    reduced = session.add_upload(as_file(image))
    assert (reduced["width"], reduced["height"]) == (64, 47)
    assert reduced["note"] == "Reduced from 131 x 97 to 64 x 47 pixels."


def test_samples_differ_and_never_end(client):
    first, second = (client.get("api/samples", {"number": number}) for number in (0, 1))
    assert first["image"] != second["image"] and first["width"] * first["height"] == labels_of(first).size
    assert client.get("api/samples", {"number": NUM_SAMPLES})["image"] == first["image"]


@pytest.mark.parametrize("similarity", ["sigmoid_cosine", "cosine", "sigmoid_l2"])
def test_contributions_sum_to_the_score(make_model, processor, image, similarity):
    model = make_model(similarity)
    with running(DemoSession(model, processor)) as server:
        client = Client(server)
        result = client.get("api/pictures", as_file(image))
        found = client.get(f"api/pictures/{result['picture']}/explain", {"x": 60, "y": 40})
    expected = explain(model, processor, image, point=(60, 40))
    assert found["class"] == expected.class_name and found["text"] == expected.to_text()
    assert found["score"] == pytest.approx(expected.score, abs=1e-9)
    assert sum(one["share"] for one in found["contributions"]) == pytest.approx(found["score"], abs=1e-9)
    rival = found["runner_up"]
    assert sum(one["runner_up_share"] for one in found["contributions"]) == pytest.approx(rival["score"])
    assert sum(one["difference"] for one in rival["deciding"]) == pytest.approx(rival["margin"], abs=1e-9)
    names = [one["property"] for one in sorted(found["contributions"], key=lambda one: one["index"])]
    assert names == model.config.property_names
    row = set(model.config.class_properties[model.config.label2id[rival["class"]]])
    assert {one["index"] for one in rival["deciding"] if one["theirs"]} == row
    assert {one["index"] for one in rival["unseen"]} <= row


def test_another_class_can_be_explained(client, image):
    path = f"api/pictures/{client.get('api/pictures', as_file(image))['picture']}/explain"
    predicted = client.get(path, {"x": 60, "y": 40})["class"]
    other = client.get(path, {"x": 60, "y": 40, "class": "tree" if predicted != "tree" else "car"})
    assert other["predicted_class"] == predicted == other["runner_up"]["class"]
    assert other["runner_up"]["margin"] < 0


def test_property_map_shows_the_scores(client, model, processor, image):
    result = client.get("api/pictures", as_file(image))
    found = client.get(f"api/pictures/{result['picture']}/properties/3")
    with torch.no_grad():
        logits = model(**processor(images=image, return_tensors="pt")).property_logits
    low = torch.sigmoid(logits / model.config.temperature)[:, 3:4]
    assert found["name"] == "property 3" and found["max"] == pytest.approx(float(low.max()))
    assert found["mean"] == pytest.approx(result["property_means"][3], abs=1e-4)
    scores = F.interpolate(low, (97, 131), mode="bilinear", align_corners=False)[0, 0].numpy()
    layer = np.asarray(opened(found["image"]))
    np.testing.assert_allclose(layer[..., 3], 255 * 0.9 * scores**0.5, atol=0.6)
    np.testing.assert_allclose(
        layer[40, 60, :3], 255 * np.array(HEAT(0.12 + 0.83 * scores[40, 60])[:3]), atol=1
    )


def test_a_class_comes_and_goes_without_training(client, session, model, processor, image):
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    before = client.get("api/pictures", as_file(image))
    means = np.array(before["property_means"])
    seen = sorted(np.argsort(-means)[:3].tolist())
    name = '<b onclick="x">Straße/\u202e..%2f</b>'
    state = client.get("api/classes", {"name": f" {name} ", "properties": [*seen, seen[0]]})
    assert state["classes"][-1] == {"name": name, "color": state["classes"][-1]["color"], "properties": seen,
                                    "added": True}  # fmt: skip
    after = client.get(f"api/pictures/{before['picture']}")
    with torch.no_grad():
        scores = model(**processor(images=image, return_tensors="pt")).property_logits
        scores = torch.sigmoid(scores / model.config.temperature)[0]
        rows = F.one_hot(torch.tensor(seen), 8).sum(dim=0)
        similarity = F.cosine_similarity(scores, rows[:, None, None].float(), dim=0)
        expected = model(**processor(images=image, return_tensors="pt")).logits[0, -1]
    torch.testing.assert_close(expected, similarity)
    assert (labels_of(after) == 5).any() and after["version"] == state["version"] > before["version"]
    y, x = np.argwhere(labels_of(after) == 5)[0].tolist()
    assert client.get(f"api/pictures/{before['picture']}/explain", {"x": x, "y": y})["class"] == name
    state = client.get("api/classes/" + urllib.request.quote(name, safe=""), method="DELETE")
    assert [one["name"] for one in state["classes"]] == ["sky", "road", "tree", "car", "person"]
    assert client.get(f"api/pictures/{before['picture']}")["runs"] == before["runs"]
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())


def test_closing_gives_the_model_its_classes_back(session, model):
    space = model.property_space
    session.add_class("bus", properties=[0, 3])
    assert model.config.id2label[5] == "bus"
    session.close()
    assert model.property_space == space


def test_sentences_go_to_the_nearest_property(model, processor):
    def encode(texts):
        vectors = {"like two": model.property_embeddings[2], "like six": model.property_embeddings[6]}
        return torch.stack([vectors.get(text, -model.property_embeddings[0]) for text in texts])

    session = DemoSession(model, processor, encoder=encode)
    assert session.state()["encoder"]["available"]
    state = session.add_class("bus", sentences=["Like six", "", "like TWO "])
    assert state["classes"][-1]["properties"] == [2, 6] and state["notes"] == []
    notes = session.add_class("van", sentences=["like two", "elsewhere"])["notes"]
    assert len(notes) == 1 and "'elsewhere'" in notes[0]


def test_without_an_encoder_known_words_still_work(session):
    assert not session.state()["encoder"]["available"]
    assert session.add_class("bus", sentences=["Property 1", "property 7"])["classes"][-1]["properties"] == [
        1,
        7,
    ]
    with pytest.raises(ValueError, match="new to the space"):
        session.add_class("van", sentences=["something else"])


def test_the_held_out_class_is_suggested_to_a_model_that_knows_its_properties(make_model, processor, model):
    from prolab_hf import PropertySpace

    space = PropertySpace.from_pretrained("scenes")
    assert DemoSession(model, processor).state()["suggestion"] is None
    config = model.config.__class__(
        **(model.config.to_dict() | {"embedding_dim": 384} | space.to_config_kwargs())
    )
    network = type(model)(config)
    network.set_property_space(space)
    session = DemoSession(network, processor)
    suggestion = session.state()["suggestion"]
    assert suggestion["name"] == "kiosk"
    assert len(suggestion["properties"]) == len(SCENE_DESCRIPTIONS["kiosk"])
    session.add_class("kiosk", properties=suggestion["properties"])
    assert session.state()["suggestion"] is None


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"name": "sky", "properties": [0]}, "a class 'sky' already"),
        ({"name": "", "properties": [0]}, "a name of 1 to 80"),
        ({"name": "x" * 81, "properties": [0]}, "a name of 1 to 80"),
        ({"name": "a\x00b", "properties": [0]}, "control character"),
        ({"name": "bus", "properties": []}, "Choose the class's properties"),
        ({"name": "bus"}, "Choose the class's properties"),
        ({"name": "bus", "properties": [8]}, "no property 8; the model has numbers 0 to 7"),
        ({"name": "bus", "properties": [-1]}, "no property -1"),
        ({"name": "bus", "properties": [True]}, "must hold whole numbers"),
        ({"name": "bus", "properties": "01"}, "'properties' must be a list"),
        ({"name": "bus", "properties": [1, 0]}, "'sky' has exactly these properties"),
        ({"name": "bus", "sentences": [7]}, "must hold texts"),
        ({"name": "bus", "sentences": ["x" * 301]}, "at most 300 characters"),
        ({"name": 7, "properties": [0]}, "'name' must be a text"),
        ({"properties": [0]}, "'name' must be a text"),
    ],
)
def test_classes_that_cannot_be_added(refusing, body, message):
    before = refusing.get("api/state")
    status, error = refusing.refusal("api/classes", body)
    assert status == 400 and message in error
    assert refusing.get("api/state") == before


def test_only_added_classes_can_be_removed(refusing):
    assert refusing.refusal("api/classes/sky", method="DELETE")[0] == 400
    assert "no class 'bus'" in refusing.refusal("api/classes/bus", method="DELETE")[1]


def bomb():
    """A PNG of a few bytes that says it has 30,000 x 30,000 pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    chunks = ((13, header), (0, b"IDAT"))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", size) + chunk + struct.pack(">I", zlib.crc32(chunk)) for size, chunk in chunks
    )


def noise(width, height):
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"no picture at all", "not a picture that can be read; use JPEG, PNG"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>", "not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture"),
        (as_file(noise(64, 64))[:3000], "damaged"),
        (as_file(noise(64, 64), "JPEG")[:700], "damaged"),
        (bomb(), "too large"),
        (as_file(Image.new("1", (9000, 8000))), "9000 x 8000 pixels, the limit is 64 million"),
        (as_file(noise(5, 40)), "at least 16"),
        (as_file(noise(20, 3000)), "after reducing"),
    ],
    ids=[
        "empty",
        "text",
        "svg",
        "postscript",
        "cut png",
        "cut jpeg",
        "bomb",
        "many pixels",
        "narrow",
        "long",
    ],
)
def test_bad_uploads(refusing, content, message):
    status, error = refusing.refusal("api/pictures", content)
    assert status == 400 and message in error
    assert refusing.get("api/state")["version"] == 0, "the server lives on"


def test_bodies_are_limited_before_they_are_read(refusing, monkeypatch):
    monkeypatch.setattr(requests, "MAX_UPLOAD_BYTES", 2**20)
    status, error = refusing.refusal("api/pictures", bytes(3 * 2**20))
    assert status == 413 and "the limit is 1 MB" in error
    status, error = refusing.refusal("api/classes", b" " * 2**17, kind="application/json")
    assert status == 413 and "64 kB" in error
    connection = http.client.HTTPConnection(refusing.url[7:-1], timeout=10)
    connection.putrequest("POST", "/api/pictures")
    for name, value in (("Content-Type", "image/png"), ("Content-Length", str(10**12))):
        connection.putheader(name, value)
    connection.endheaders()
    assert connection.getresponse().status == 413, "answered although nothing was sent"
    connection.close()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/api", 404),
        ("GET", "/api/state/", 404),
        ("GET", "/demo.py", 404),
        ("GET", "/../../../../etc/passwd", 404),
        ("GET", "/%2e%2e/%2e%2e/etc/passwd", 404),
        ("GET", "//etc/passwd", 404),
        ("GET", "/api/pictures/../../etc/passwd", 404),
        ("GET", "/api/pictures/..%2f..%2fetc%2fpasswd", 404),
        ("GET", "/api/pictures/0123456789abcdef", 410),
        ("GET", "/api/pictures/0123456789abcdef/properties/0", 410),
        ("GET", "/api/pictures/0123456789abcdef/properties/-1", 404),
        ("POST", "/", 405),
        ("DELETE", "/api/state", 405),
        ("GET", "/api/classes", 405),
        ("PUT", "/api/pictures", 405),
        ("OPTIONS", "/api/pictures", 405),
        ("BREW", "/", 501),
        ("POST", "/api/pictures", 411),
    ],
)
def test_wrong_addresses_and_methods(refusing, method, path, status):
    connection = http.client.HTTPConnection(refusing.url[7:-1], timeout=10)
    connection.putrequest(method, path)
    if status == 411:
        connection.putheader("Content-Type", "image/png")
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    assert answer.status == status
    assert list(json.loads(body)) == ["error"] and b"\n" not in body
    assert (answer.headers["Allow"] is not None) == (status == 405)


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"\xff", "application/json", 400),
        (b"[" * 50_000, "application/json", 400),
        (b"[1]", "application/json", 400),
        (b'{"number": 1.5}', "application/json", 400),
        (b'{"number": 1e999}', "application/json", 400),
        (b'{"number": %s}' % (b"9" * 4000), "application/json", 400),
        (b'{"number": 0}', "text/plain", 415),
        (b"number=0", "application/x-www-form-urlencoded", 415),
    ],
)
def test_bad_json(refusing, content, kind, status):
    assert refusing.refusal("api/samples", content, kind=kind)[0] == status


def test_points_outside_of_the_picture(client, image):
    path = f"api/pictures/{client.get('api/pictures', as_file(image))['picture']}"
    for point in ({"x": 131, "y": 0}, {"x": 0, "y": -1}, {"x": 0}, {"x": "0", "y": 0}, {"x": 10**30, "y": 0}):
        assert client.refusal(f"{path}/explain", point)[0] == 400
    assert "no class 'cow'" in client.refusal(f"{path}/explain", {"x": 0, "y": 0, "class": "cow"})[1]
    assert client.refusal(f"{path}/properties/8")[0] == 400


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "[bad"}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"}, 403),
    ],
)
def test_other_web_pages_are_refused(refusing, headers, status):
    assert refusing.refusal("api/samples", {"number": 0}, **headers)[0] == status
    if "Sec-Fetch-Site" in headers:
        navigation = headers | {"Sec-Fetch-Mode": "navigate"}
        assert refusing.send("", **navigation)[0] == 200, "a link may open the page"
        assert refusing.refusal("api/samples", {"number": 0}, **navigation)[0] == 403


def test_a_kept_connection_survives_refusals(refusing):
    connection = http.client.HTTPConnection(refusing.url[7:-1], timeout=10)
    for path, status in (("/api/state", 200), ("/nothing", 404), ("/api/state", 200)):
        connection.request("GET", path)
        answer = connection.getresponse()
        assert (answer.status, bool(answer.read())) == (status, True)
    connection.close()


def test_only_the_last_pictures_are_kept_and_the_network_runs_once_for_each(client, model, image):
    runs = []
    hook = model.backbone.register_forward_hook(lambda *_: runs.append(1))
    images = [image.rotate(7 * k) for k in range(MAX_IMAGES + 1)]
    ids = [client.get("api/pictures", as_file(one))["picture"] for one in images]
    assert client.refusal(f"api/pictures/{ids[0]}")[0] == 410
    client.get(f"api/pictures/{ids[1]}")
    client.get(f"api/pictures/{ids[1]}/properties/0")
    client.get(f"api/pictures/{ids[1]}/explain", {"x": 3, "y": 3})
    client.get("api/classes", {"name": "bus", "properties": [0, 3]})
    client.get(f"api/pictures/{ids[1]}")
    hook.remove()
    assert len(runs) == len(images)


def test_a_failing_model_is_answered_and_logged(client, model, image, caplog):
    def fail(*_):
        raise RuntimeError("kernel\nbroke")

    hook = model.backbone.register_forward_pre_hook(fail)
    with caplog.at_level(logging.CRITICAL):
        status, error = client.refusal("api/pictures", as_file(image))
    hook.remove()
    assert (status, error) == (500, "The model failed: kernel broke")
    client.get("api/pictures", as_file(image))


def test_questions_at_the_same_time(client, image):
    path = f"api/pictures/{client.get('api/pictures', as_file(image))['picture']}"
    scores = []
    threads = [
        threading.Thread(
            target=lambda: scores.append(client.get(f"{path}/explain", {"x": 9, "y": 9})["score"])
        )
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(scores) == 8 and len(set(scores)) == 1


@pytest.fixture(scope="module")
def saved(make_model, processor, tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "tiny"
    make_model().save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def test_the_command_serves_until_it_is_interrupted(saved, monkeypatch, capsys):
    asked = []

    def interrupted(server):
        asked.append((server.server_address[0], server.is_local, server.session.state()["model"]))
        raise KeyboardInterrupt

    monkeypatch.setattr(DemoServer, "serve_forever", interrupted)
    assert run(["demo", "--model", str(saved), "--port", "0"]) == 0
    printed = capsys.readouterr().out
    assert asked == [("127.0.0.1", True, "tiny")]
    assert re.search(r"http://127\.0\.0\.1:\d+/", printed) and "Everybody" not in printed
    assert run(["demo", "--model", str(saved), "--port", "0", "--host", "0.0.0.0"]) == 0
    assert "Everybody who can reach this machine" in capsys.readouterr().out


def test_mistakes_on_the_command_line(saved, tmp_path, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert run(["demo", "--model", str(saved), "--port", port]) == 2
    assert f"port {port}: Address already in use. Choose another --port" in capsys.readouterr().err
    assert run(["demo", "--model", str(tmp_path / "none")]) == 2
    assert "There is no model folder" in capsys.readouterr().err
    assert run(["demo", "--model", str(saved), "--encoder", str(tmp_path / "none")]) == 2
    assert "Could not load the text encoder" in capsys.readouterr().err


def test_a_model_without_properties_is_refused(processor):
    with pytest.raises(ValueError, match="Linear has no properties to show"):
        DemoSession(torch.nn.Linear(1, 1), processor)


def test_what_a_visitor_adds_is_theirs_alone(session, image):
    with running(session) as server:
        ann, ben = Client(server), Client(server)
        of_ann = ann.get("api/pictures", as_file(image))
        state = ann.get("api/classes", {"name": "bus", "properties": [0, 3]})
        assert [one["name"] for one in state["classes"]][5:] == ["bus"]
        of_ben = ben.get("api/pictures", as_file(image))
        assert [one["name"] for one in ben.get("api/state")["classes"]] == [
            "sky",
            "road",
            "tree",
            "car",
            "person",
        ]
        assert ben.get("api/classes", {"name": "bus", "properties": [1, 4]})["classes"][5]["properties"] == [
            1,
            4,
        ]
        assert ann.get("api/state")["classes"][5]["properties"] == [0, 3]
        assert of_ben["runs"] == of_ann["runs"]
        again = ann.get(f"api/pictures/{of_ann['picture']}")
        assert ben.refusal(f"api/pictures/{of_ann['picture']}")[0] == 410
        ben.get("api/classes/bus", method="DELETE")
        assert ann.get(f"api/pictures/{of_ann['picture']}") == again
        cookies = [cookie for handler in ann.opener.handlers for cookie in getattr(handler, "cookiejar", [])]
        assert len(cookies) == 1 and cookies[0].has_nonstandard_attr("HttpOnly")


def test_visitors_are_forgotten_in_their_order(session, image, monkeypatch):
    monkeypatch.setattr(DemoServer, "MAX_VISITORS", 2)
    with running(session) as server:
        visitors = [Client(server) for _ in range(3)]
        for visitor in visitors:
            visitor.get("api/classes", {"name": "bus", "properties": [0, 3]})
        names = [[one["name"] for one in visitor.get("api/state")["classes"]] for visitor in visitors[::-1]]
        assert [len(one) for one in names] == [6, 6, 5]


def test_slow_senders_keep_nobody_waiting_and_are_ended(session, image, monkeypatch):
    monkeypatch.setattr(requests.DemoHandler, "MAX_SECONDS", 2.0)
    monkeypatch.setattr(requests.DemoHandler, "DISCARD_SECONDS", 0.1)
    head = b"POST /api/pictures HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\nContent-Length: 999\r\n\r\nx"
    with running(session) as server:
        slow = [socket.create_connection(server.server_address[:2], timeout=20) for _ in range(20)]
        for connection in slow:
            connection.sendall(head)
        client = Client(server)
        client.get("api/pictures", as_file(image))  # all places would be taken
        for connection in slow:
            assert b" 408 " in connection.recv(2**16).split(b"\r\n")[0]
            connection.close()


def test_contents_in_memory_are_limited_together(session, image, monkeypatch):
    content = as_file(image)
    monkeypatch.setattr(DemoServer, "MAX_HELD_BYTES", len(content) + 100)
    with running(session) as server:
        client = Client(server)
        for _ in range(3):
            client.get("api/pictures", content)  # what is answered is given free
        status, error = client.refusal("api/pictures", content + bytes(200))
        assert status == 503 and "try again" in error
        client.get("api/pictures", content)
