"""`Routing`: which rule of the settings applies to an image, and where the results of a study go."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from pydicom import Dataset
from pydicom.uid import UID

from mammoscope.imaging import attributes
from mammoscope.reasons import Reason, ReasonCode
from mammoscope.settings import DestinationSettings, ResultKind, RuleSettings, Transport
from mammoscope.settings.rules import matches

UNKNOWN = "?"
"""In place of a rule's name: the image's header could not be read, so that nobody knows which rule applies."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where the results of a study go.

    Parameters
    ----------
    destinations
        Each with the kinds of results that it is sent.
    problems
        What the rules ask for and cannot be had, one sentence each.
    """

    destinations: tuple[DestinationSettings, ...]
    problems: tuple[str, ...] = ()


class Routing:
    """The rules of a node.

    Parameters
    ----------
    rules
        The first that matches an image applies; where none does, the image is read as the rest of the settings say and
        its results go to every destination.
    """

    def __init__(self, rules: Sequence[RuleSettings], destinations: Sequence[DestinationSettings]) -> None:
        self._rules = {rule.name: rule for rule in rules}
        self._destinations = tuple(destinations)

    @property
    def has_rules(self) -> bool:
        """Whether there is anything to look up."""
        return bool(self._rules)

    def rule_of(self, header: Dataset, caller: str) -> str | None:
        """Name of the rule that applies to an image; ``None`` if none does.

        Parameters
        ----------
        header
            Its attributes.
        caller
            Calling AE title, or name of the source, that it came from.
        """
        return next((rule.name for rule in self._rules.values() if _applies(rule, header, caller)), None)

    def threshold_of(self, name: str | None) -> float | None:
        """The lowest score reported under a rule; ``None`` for that of the settings or the bundle."""
        rule = self._rules.get(name or "")
        return None if rule is None else rule.threshold

    def why_not_read(self, name: str | None) -> Reason | None:
        """Why an image under a rule is not read; ``None`` if it is."""
        rule = self._rules.get(name or "")
        if rule is None or rule.read:
            return None
        return Reason(ReasonCode.RULE, f"The rule '{rule.name}' of this node says that such images are not read.")

    def route(self, applied: Sequence[str | None], senders: Collection[str]) -> Route:
        """Where the results of a study go.

        Parameters
        ----------
        applied
            For each of its images the rule that applies. An image under a rule that has it not read, and one of which
            nobody knows the rule, sends the results nowhere; the others decide.
        senders
            AE titles that sent the images.
        """
        known = [name for name in applied if name != UNKNOWN]
        deciding = [name for name in known if self.why_not_read(name) is None]
        if known and not deciding:
            return Route(())
        kinds: dict[str, list[ResultKind]] = {}
        problems: list[str] = []
        for name in dict.fromkeys(deciding or [None]):
            for destination in self._under(self._rules.get(name or ""), senders, problems):
                kinds.setdefault(destination.name, []).extend(destination.results)
        return Route(
            tuple(
                destination.model_copy(update={"results": tuple(dict.fromkeys(kinds[destination.name]))})
                for destination in self._destinations
                if destination.name in kinds
            ),
            tuple(problems),
        )

    def _under(
        self, rule: RuleSettings | None, senders: Collection[str], problems: list[str]
    ) -> list[DestinationSettings]:
        if rule is None:
            return list(self._destinations)
        named = rule.destinations
        back = [d for d in self._destinations if rule.back_to_sender and d.ae_title in senders]
        if rule.back_to_sender and not back:
            problems.append(
                f"The rule '{rule.name}' sends results back to the sender, and none of the destinations has an AE title"
                " that sent this study: add the sender to [[destinations]]."
            )
        # Back to the sender alone, unless the rule names others beside it.
        wanted = [d for d in self._destinations if (d.name in named if named is not None else not rule.back_to_sender)]
        chosen = [d for d in self._destinations if d in wanted or d in back]
        if rule.results is None:
            return chosen
        changed = {"results": rule.results}
        return [d if d.transport is Transport.HL7 else d.model_copy(update=changed) for d in chosen]


def _applies(rule: RuleSettings, header: Dataset, caller: str) -> bool:
    if rule.callers and caller not in rule.callers:
        return False
    return all(
        any(matches(value, patterns) for value in _values(header, keyword)) for keyword, patterns in rule.where.items()
    )


def _values(header: Dataset, keyword: str) -> list[str]:
    if keyword == "PresentationIntentType":  # what the SOP class says counts where the attribute is missing
        intent = attributes.intent(header, UID(attributes.text(header, "SOPClassUID") or ""))
        return [str(intent)] if intent is not None else []
    return [value.strip() for value in attributes.texts(header, keyword)]
