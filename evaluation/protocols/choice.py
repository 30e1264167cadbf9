"""Which protocol is a dataset's."""

from evaluation.protocols.base import BenchmarkProtocol


def protocols() -> list[type[BenchmarkProtocol]]:
    """Return every protocol that has been imported."""
    found = BenchmarkProtocol.__subclasses__()
    for protocol in found:  # which grows by theirs
        found.extend(protocol.__subclasses__())
    return found


def protocol_of(dataset: str) -> type[BenchmarkProtocol]:
    """Return the protocol of a dataset, by the name of its class.

    Raises:
        ValueError: if it has none.

    Example:
        >>> from evaluation.protocols import protocol_of
        >>> protocol_of("MeViS").__name__
        'MeViSProtocol'
    """
    # A protocol that is derived from a benchmark's is not for its dataset unless it says so itself.
    known = {name: protocol for protocol in protocols() for name in vars(protocol).get("datasets", ())}
    if dataset not in known:
        raise ValueError(
            f"Expected a dataset that has a protocol, {', '.join(sorted(known))}, but got {dataset!r}: name one of the "
            f"protocols {', '.join(sorted(protocol.__name__ for protocol in protocols()))}"
        )
    return known[dataset]
