"""The lesions that readers confirmed, for whoever has scores to set beside them."""

from mammoscope.findings import Box
from mammoscope.review.store import ReviewStore, lesions


def confirmed_lesions(store: ReviewStore) -> dict[tuple[str, str], tuple[Box, ...]]:
    """The lesions of each image that readers have finished, by the keys of its study and of itself."""
    confirmed = {}
    for study in store.finished():
        marks = store.truth(study.id).marks
        for image in store.images(study.id):
            confirmed[study.key, image.key] = tuple(mark.box for mark in lesions(marks.get(image.id, ())))
    return confirmed
