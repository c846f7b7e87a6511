import io
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import obstore
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobeam import storage
from emobeam.storage import StorageError, buckets, ranges
from tests.support.paths import ROOT
from tests.support.servers import BUCKETS

EXTENSIONS = {".wav", ".mp3", ".flac", ".ogg", ".m4a"}

NAMES = st.binary(min_size=1, max_size=60).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b"..")
)


@given(st.lists(NAMES, min_size=1, max_size=4))
def test_any_path_comes_back_from_its_uri(parts):
    path = b"/" + b"/".join(parts)
    uri = storage.canonical(path)
    assert uri.isascii()
    assert os.fsencode(storage.path_of(uri)) == path
    assert storage.canonical(uri) == uri


@given(NAMES.map(lambda name: name[:200] + b".Wav"))
def test_any_name_that_the_system_allows_is_listed_and_opens(name):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(os.fsencode(folder), name)
        with open(path, "wb") as file:
            file.write(b"sound")
        (entry,) = storage.list_input(folder, EXTENSIONS)
        assert entry.uri == storage.canonical(path)
        assert entry.kind == ("hidden" if name.startswith(b".") else "recording")
        assert storage.read(entry.uri) == b"sound"


@pytest.fixture(params=["folder", *BUCKETS])
def base(request, tmp_path, a_bucket):
    """All kinds of storage."""
    match request.param:
        case "folder":
            uri = storage.canonical(tmp_path)
        case "memory":
            uri = f"memory://test/{tmp_path.name}"
        case kind:
            uri = a_bucket(kind)
    yield uri
    storage.remove_tree(uri)


def put(base, *names):
    for name in names:
        storage.write(storage.join(base, name), name.encode())


def listed(pattern, kind="recording"):
    return sorted(storage.name_of(entry.uri) for entry in storage.list_input(pattern, EXTENSIONS) if entry.kind == kind)


def test_a_folder_is_searched_recursively_for_extensions_in_any_case(base):
    put(base, "a.wav", "B.WAV", "deep/er/c.Mp3", "notes.md", "wav", ".hidden.wav", "deep/._a.wav")
    assert listed(base) == ["B.WAV", "a.wav", "c.Mp3"]
    assert listed(base, "hidden") == ["._a.wav", ".hidden.wav"]


def test_any_name_is_listed_where_that_is_asked_for(base):
    put(base, "a.wav", "deep/b", "deep/c.dat", ".hidden")
    storage.write(f"{base}/empty.dat", b"")
    passed_over = storage.PassedOver()
    for pattern in (base, f"{base}/**"):
        entries = list(storage.list_input(pattern, EXTENSIONS, passed_over, any_name=True))
        names = sorted((storage.name_of(entry.uri), entry.kind) for entry in entries)
        recordings = [("a.wav", "recording"), ("b", "recording"), ("c.dat", "recording")]
        assert names == [(".hidden", "hidden"), *recordings]
    assert passed_over == {".dat": 2}


def test_globs(base):
    put(base, "top.wav", "x/one.wav", "x/two.mp3", "x/y/three.wav", "x/y/four.txt", "x/odd.dat")
    assert listed(f"{base}/*.wav") == ["top.wav"]
    assert listed(f"{base}/**/*.wav") == ["one.wav", "three.wav", "top.wav"]
    assert listed(f"{base}/x/*.???") == ["one.wav", "two.mp3"]
    assert listed(f"{base}/x/**") == ["one.wav", "three.wav", "two.mp3"]
    assert listed(f"{base}/*/[ot][nw]?.*") == ["one.wav", "two.mp3"]
    assert listed(f"{base}/x/[!t]*.wav") == ["one.wav"]
    assert listed(f"{base}/x/*.dat") == ["odd.dat"], "a glob's own extension is accepted"
    assert listed(f"{base}/nothing*") == []


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        ("**.wav", ["top.wav"]),
        ("x/o**", ["one.wav"]),
        ("**/y/*", ["three.wav"]),
        ("x/**/*.wav", ["[a].wav", "one.wav", "three.wav"]),
        ("x[!t]*.wav", []),
        ("x/[!]", []),
        ("x/[[]a[]].wav", ["[a].wav"]),
        ("x/{one,two}*.wav", []),
        ("x/!*", []),
    ],
)
def test_globs_match_in_object_stores_what_they_match_in_folders(base, pattern, matches):
    put(base, "top.wav", "x/one.wav", "x/y/three.wav", "x/%5Ba%5D.wav")
    assert listed(f"{base}/{pattern}") == matches


def test_a_backslash_in_a_glob_is_a_character(base):
    if base.startswith("az://"):
        pytest.skip("Azure reads a backslash in a key as a slash")
    put(base, "a%5Cb.wav", "a%2Ab.wav")
    assert listed(f"{base}/a%5C*.wav") == ["a\\b.wav"]


@pytest.mark.parametrize("spelling", ["a b+c=é.wav", "a%20b%2Bc%3D%C3%A9.wav", "a%20b+c=%c3%a9.wav"])
def test_a_name_has_one_uri_however_it_is_spelled(base, tried, spelling):
    storage.write(f"{base}/{quote('a b+c=é.wav')}", b"sound")
    storage.write(f"{base}/list.txt", f"{base}/{spelling}\n".encode())
    (entry,) = storage.list_input(base, {".wav"})
    assert storage.name_of(entry.uri) == "a b+c=é.wav"
    assert storage.canonical(f"{base}/{spelling}") == entry.uri
    assert storage.read(f"{base}/{spelling}") == b"sound"
    for pattern in (f"{base}/{spelling}", f"{base}/list.txt"):
        assert [listed.uri for listed in storage.list_input(pattern, {".wav"})] == [entry.uri]
    tried("Names, links and permissions", "a key with a space, +, = or é, spelled in three ways", "one uri")


def test_a_percent_sign_of_a_key_is_one_where_a_key_has_it(base, tried):
    if "://" not in base or base.startswith("file://"):
        pytest.skip("a path's percent signs are always its own")
    put(base, "in/a%2520b.wav", "in/c%20d.wav", "in/%2541.wav", "in/A.wav")
    storage.write(f"{base}/list.txt", "\n".join(f"{base}/in/{name}.wav" for name in ("a%20b", "c d", "%41")).encode())
    names = [entry.uri for entry in storage.list_input(f"{base}/list.txt", EXTENSIONS)]
    assert names == [f"{base}/in/{name}.wav" for name in ("a%2520b", "c%20d", "A")]
    assert [entry.uri for entry in storage.list_input(f"{base}/in/a%20b.wav", EXTENSIONS)] == names[:1]
    with pytest.raises(StorageError, match=r"nothing is at .*/no%20ne\.wav"):
        list(storage.list_input(f"{base}/in/no%20ne.wav", EXTENSIONS))
    tried("Names, links and permissions", "a key with %20 in it, in a list as `aws s3 ls` names it", "found")


def test_a_named_file_is_listed_whatever_its_extension(base):
    put(base, "odd.dat", ".hidden")
    assert listed(f"{base}/odd.dat") == ["odd.dat"]
    assert listed(f"{base}/.hidden") == [".hidden"]


@pytest.mark.parametrize("name", ["take [1].wav", "a*b.wav", "why?.wav"])
def test_a_name_that_looks_like_a_glob_is_a_name_if_it_exists(base, name):
    put(base, "plain.wav", quote(name))
    assert listed(f"{base}/{quote(name)}") == [name]


def test_a_missing_input_is_an_error(base):
    with pytest.raises(StorageError, match="nothing is at") as caught:
        list(storage.list_input(f"{base}/missing", EXTENSIONS))
    assert caught.value.code == "not_found"


def test_a_list_of_uris_with_paths_relative_to_it(base):
    put(base, "in/a.wav", "in/b.dat")
    lines = ["a.wav", "", "b.dat\r", f"{base}/in/a.wav", "gone.wav"]
    storage.write(f"{base}/in/list.txt", "\n".join(lines).encode())
    entries = list(storage.list_input(f"{base}/in/list.txt", EXTENSIONS))
    assert [storage.name_of(entry.uri) for entry in entries] == ["a.wav", "b.dat", "a.wav", "gone.wav"]
    assert [entry.kind for entry in entries] == ["recording"] * 3 + ["broken"]
    assert entries[3].error.code == "not_found"
    assert len({entry.uri for entry in entries}) == 3


def test_entries_have_size_and_time_and_in_object_stores_an_etag(base):
    put(base, "a.wav")
    (entry,) = storage.list_input(base, EXTENSIONS)
    assert entry.size_bytes == 5
    assert entry.modified_at.tzinfo is not None
    assert (entry.etag is None) == base.startswith("file")


def test_readers_seek_and_read_ranges(base):
    storage.write(f"{base}/x", bytes(range(256)) * 5000)
    with storage.open_read(f"{base}/x") as file:
        file.seek(-6, io.SEEK_END)
        assert file.read(3) == bytes([250, 251, 252])
        file.seek(256 * 4999 + 7)
        assert file.tell() == 256 * 4999 + 7
        assert file.read(1) == b"\x07"
        assert len(file.read()) == 248


def test_a_long_object_can_be_read_in_any_order(base):
    data = os.urandom(5 * ranges.BLOCK + 7)
    storage.write(f"{base}/x", data)
    assert storage.read(f"{base}/x") == data
    with storage.open_read(f"{base}/x") as file:
        for start in (0, 4 * ranges.BLOCK - 3, ranges.BLOCK - 3, 5 * ranges.BLOCK + 6, 17):
            file.seek(start)
            assert file.read(9) == data[start : start + 9]


def test_an_answer_shorter_than_the_object_is_an_error_and_not_its_end(monkeypatch, tmp_path):
    uri = f"memory://short/{tmp_path.name}"
    storage.write(uri, bytes(2 * ranges.BLOCK))
    store = storage.backend_of(uri)
    fetch = store.fetch

    def fetch_less(*arguments):
        data, entry = fetch(*arguments)
        return data[:9], entry

    monkeypatch.setattr(store, "fetch", fetch_less)
    with storage.open_read(uri) as file, pytest.raises(StorageError, match="gave less"):
        file.read()


def test_an_object_of_no_bytes_opens(base):
    storage.write(f"{base}/x", b"")
    assert storage.read(f"{base}/x") == b""


def test_prefetched_objects_are_the_ones_opened_in_any_order(base):
    put(base, *map(str, range(30)))
    uris = [f"{base}/{index}" for index in range(30)]
    open_read = storage.prefetching_opener([*uris[:25], f"{base}/gone"])
    for index in (*range(0, 30, 3), 1, 1):
        with open_read(uris[index]) as file:
            assert file.read() == str(index).encode()
    with pytest.raises(StorageError) as caught:
        open_read(f"{base}/gone")
    assert caught.value.code == "not_found"


def test_an_entry_is_refreshed_to_the_version_that_was_opened(base):
    storage.write(f"{base}/a.wav", b"first")
    (entry,) = storage.list_input(base, EXTENSIONS)
    with storage.open_read(entry.uri) as file:
        assert storage.refresh_stat(entry, file) == entry
    storage.write(entry.uri, b"second")
    with storage.open_read(entry.uri) as file:
        opened = storage.refresh_stat(entry, file)
        assert opened == storage.refresh_stat(opened, file)
    assert opened.size_bytes == 6
    (again,) = storage.list_input(base, EXTENSIONS)
    assert (again.size_bytes, again.etag) == (opened.size_bytes, opened.etag)


def test_many_objects_are_moved_and_removed_at_once(base):
    put(base, *map(str, range(20)))
    storage.for_each_concurrently(storage.move, [(f"{base}/{index}", f"{base}/to/{index}") for index in range(20)])
    assert storage.names(base) == ["to"]
    storage.for_each_concurrently(storage.remove, [(f"{base}/to/{index}",) for index in range(20)])
    assert storage.names(base) == []
    with pytest.raises(StorageError):
        storage.for_each_concurrently(storage.move, [(f"{base}/gone", f"{base}/x"), (f"{base}/gone too", f"{base}/y")])


def test_writes_replace_whole_objects_or_only_create_them(base):
    storage.write(f"{base}/t/x", b"1")
    storage.write(f"{base}/t/x", b"2")
    with pytest.raises(StorageError) as caught:
        storage.write(f"{base}/t/x", b"3", if_absent=True)
    assert caught.value.code == "exists"
    assert storage.read(f"{base}/t/x") == b"2"
    assert storage.names(f"{base}/t") == ["x"], "no temporary file stays behind"


def test_only_one_of_several_writers_creates_an_object(base):
    def create(number):
        try:
            storage.write(f"{base}/x", str(number).encode(), if_absent=True)
        except StorageError as error:
            return error.code
        return "created"

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(create, range(16)))
    assert sorted(results) == ["created", *["exists"] * 15]
    assert storage.read(f"{base}/x") == str(results.index("created")).encode()


def test_the_store_in_memory_needs_no_client_of_buckets():
    program = (
        "import sys\n"
        "from emobeam import storage\n"
        "with storage.lock('memory://x/lock'): storage.write('memory://x/y', b'z')\n"
        "storage.move('memory://x/y', 'memory://x/z/y'); storage.remove_tree('memory://x/z')\n"
        "print(storage.names('memory://x'), 'obstore' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.stdout == "[] False\n", done.stderr


def test_moves_can_be_repeated(base):
    put(base, "a")
    for _ in range(2):
        storage.move(f"{base}/a", f"{base}/sub/b")
    assert storage.names(base) == ["sub"]
    with pytest.raises(StorageError) as caught:
        storage.move(f"{base}/never", f"{base}/sub/c")
    assert caught.value.code == "not_found"


def test_trees_can_be_removed_twice(base):
    put(base, "t/a", "t/u/b", "keep")
    for _ in range(2):
        storage.remove_tree(f"{base}/t")
    assert storage.names(base) == ["keep"]
    assert storage.names(f"{base}/t") == []


def test_links_that_lead_back_up_are_not_followed(tmp_path):
    put(storage.canonical(tmp_path), "in/a.wav")
    (tmp_path / "in" / "up").symlink_to(tmp_path)
    (tmp_path / "self.wav").symlink_to("self.wav")
    (tmp_path / "gone.wav").symlink_to("nowhere")
    assert listed(str(tmp_path)) == ["a.wav"]
    assert listed(str(tmp_path), "broken") == ["gone.wav", "self.wav"]


def test_a_linked_folder_is_followed(tmp_path):
    put(storage.canonical(tmp_path), "there/a.wav")
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "link").symlink_to(tmp_path / "there")
    assert listed(str(tmp_path / "here")) == ["a.wav"]


def test_a_fifo_is_neither_waited_for_nor_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    (entry,) = storage.list_input(str(tmp_path), EXTENSIONS)
    assert entry.kind == "broken"
    assert "FIFO" in str(entry.error)
    with pytest.raises(StorageError, match="FIFO"):
        storage.open_read(entry.uri)


def test_unreadable_folders_and_files_are_reported(tmp_path):
    """In a process that gives up root's rights, since root may read everything."""
    put(storage.canonical(tmp_path), "ok.wav", "shut/in.wav", "no.wav")
    (tmp_path / "shut").chmod(0)
    (tmp_path / "no.wav").chmod(0)
    for folder in (tmp_path, *list(tmp_path.parents)[:3]):
        folder.chmod(0o755)
    program = (
        "import os, sys\n"
        "from emobeam import storage\n"
        "if os.geteuid() == 0: os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "for entry in storage.list_input(sys.argv[1], {'.wav'}):\n"
        "    print(storage.name_of(entry.uri), entry.kind, entry.error and entry.error.code)\n"
        "try: storage.open_read(storage.canonical(sys.argv[1] + '/no.wav'))\n"
        "except storage.StorageError as error: print(error.code, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, cwd=ROOT, check=False
    )
    (tmp_path / "shut").chmod(0o755)
    assert "ok.wav recording None" in done.stdout, done.stderr
    assert "shut broken permission_denied" in done.stdout
    assert "permission_denied" in done.stdout.splitlines()[-1]
    assert "no.wav may not be read" in done.stdout


@pytest.mark.parametrize("uri", ["ftp://host/x", "http://host/x"])
def test_an_unknown_scheme_is_named_in_the_error(uri):
    with pytest.raises(ValueError, match=uri.partition(":")[0]):
        storage.canonical(uri)


def test_an_unwritable_place_is_an_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="cannot write") as caught:
        storage.write(storage.canonical(tmp_path / "file" / "below"), b"")
    assert caught.value.code == "unwritable"


def test_a_signature_in_an_address_stays_out_of_the_message():
    """Azure's shared access signatures are credentials in the query."""
    message = (
        "Generic MicrosoftAzure error: Error performing GET https://a.blob.net/b/c?sv=1&sig=SECRET in 3ms - HTTP error"
    )
    error = buckets.reading_error(
        "az://b/c", obstore.exceptions.GenericError(f"{message}\n\nDebug source:\nsig=SECRET")
    )
    assert "SECRET" not in str(error)
    assert "https://a.blob.net/b/c in 3ms" in str(error)


@pytest.mark.parametrize(
    ("uri", "environment", "message"),
    [
        ("s3://calls/in", {"AWS_SECRET_ACCESS_KEY": "SECRET"}, "Missing AccessKeyId"),
        ("s3://calls/in", {"AWS_ALLOW_HTTP": "perhaps"}, "AWS_"),
        ("s3://calls/in", {"AWS_ENDPOINT_URL": "127.0.0.1:7070"}, "AWS_ENDPOINT_URL"),
        ("gs://calls/in", {"GOOGLE_SERVICE_ACCOUNT": "/nowhere.json"}, "/nowhere.json"),
        ("az://calls/in", {"AZURE_STORAGE_ACCOUNT_KEY": "SECRET"}, "AZURE_"),
    ],
)
def test_wrong_settings_are_an_error_of_one_line_without_secrets(uri, environment, message, monkeypatch):
    for name in [name for name in os.environ if name.startswith(("AWS_", "GOOGLE_", "AZURE_"))]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    buckets.reset_stores()
    with pytest.raises(StorageError, match="cannot be reached") as caught:
        list(storage.list_input(uri, {".wav"}))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "SECRET" not in str(caught.value)
