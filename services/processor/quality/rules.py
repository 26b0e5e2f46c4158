"""What OCDS 1.1 asks of a release, in a notation of our own: fields, types, formats, required ones, code lists.

No package that can be installed brings the standard's schema, and a job must not need the network. So this states the
facts of OCDS 1.1.5 (https://standard.open-contracting.org/1.1/en/schema/reference/) and of some extensions that
publishers use most. docs/quality.md says what is judged by it and what is not.

The notation
------------
A line is an object: its name, then its fields with their types, separated by commas. ``!`` after a field's name: it is
required. Types are

- ``text``, ``number``, ``integer``, ``boolean``, ``object``, ``any``; ``id``: a text or a whole number;
- ``date``: a date and time with an offset; ``url``: an absolute address;
- ``=list`` and ``~list``: a code of a closed, or of an open code list;
- the name of an object;
- any of these in ``[]``: an array of them.

A line that begins with ``+`` adds fields to an object, as extensions do.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

CORE = """
Release: ocid! text, id! text, date! date, tag! [=releaseTag], initiationType! =initiationType,
    parties [Organization], buyer OrganizationReference, planning Planning, tender Tender, awards [Award],
    contracts [Contract], language text, relatedProcesses [RelatedProcess]
Planning: rationale text, budget Budget, documents [Document], milestones [Milestone]
Budget: id id, description text, amount Value, project text, projectID id, uri url, source url
Tender: id! id, title text, description text, status =tenderStatus, procuringEntity OrganizationReference,
    items [Item], value Value, minValue Value, procurementMethod =method, procurementMethodDetails text,
    procurementMethodRationale text, mainProcurementCategory =procurementCategory,
    additionalProcurementCategories [~extendedProcurementCategory], awardCriteria ~awardCriteria,
    awardCriteriaDetails text, submissionMethod [~submissionMethod], submissionMethodDetails text,
    tenderPeriod Period, enquiryPeriod Period, hasEnquiries boolean, eligibilityCriteria text, awardPeriod Period,
    contractPeriod Period, numberOfTenderers integer, tenderers [OrganizationReference], documents [Document],
    milestones [Milestone], amendments [Amendment], amendment Amendment
Award: id! id, title text, description text, status =awardStatus, date date, value Value,
    suppliers [OrganizationReference], items [Item], contractPeriod Period, documents [Document],
    amendments [Amendment], amendment Amendment
Contract: id! id, awardID! id, title text, description text, status =contractStatus, period Period, value Value,
    items [Item], dateSigned date, documents [Document], implementation Implementation,
    relatedProcesses [RelatedProcess], milestones [Milestone], amendments [Amendment], amendment Amendment
Implementation: transactions [Transaction], milestones [Milestone], documents [Document]
Milestone: id! id, title text, type ~milestoneType, description text, code text, dueDate date, dateMet date,
    dateModified date, status =milestoneStatus, documents [Document]
Document: id! id, documentType ~documentType, title text, description text, url url, datePublished date,
    dateModified date, format text, language text
Transaction: id! id, source url, date date, value SignedValue, payer OrganizationReference,
    payee OrganizationReference, uri url, amount SignedValue, providerOrganization Identifier,
    receiverOrganization Identifier
OrganizationReference: name text, id id, identifier Identifier, address Address, additionalIdentifiers [Identifier],
    contactPoint ContactPoint
Organization: name text, id text, identifier Identifier, additionalIdentifiers [Identifier], address Address,
    contactPoint ContactPoint, roles [~partyRole], details Details
Details:
Item: id! id, description text, classification Classification, additionalClassifications [Classification],
    quantity number, unit Unit
Unit: scheme ~unitClassificationScheme, id text, name text, value Value, uri url
Amendment: date date, rationale text, id text, description text, amendsReleaseID text, releaseID text,
    changes [Change]
Change: property text, former_value any
Classification: scheme ~itemClassificationScheme, id id, description text, uri url
Identifier: scheme text, id id, legalName text, uri url
Address: streetAddress text, locality text, region text, postalCode text, countryName text
ContactPoint: name text, email text, telephone text, faxNumber text, url url
Value: amount number, currency =currency
SignedValue: amount number, currency =currency
Period: startDate date, endDate date, maxExtentDate date, durationInDays integer
RelatedProcess: id text, relationship [~relatedProcess], title text, scheme ~relatedProcessScheme, identifier text,
    uri url
"""
"""``SignedValue`` and ``Details`` are ours: amounts that may be negative, and what extensions say of a party."""

EXTENSIONS: dict[str, str] = {
    "additionalContactPoints": """
+Organization: additionalContactPoints [ContactPoint]
+ContactPoint: availableLanguage [text], address Address
""",
    "bids": """
+Release: bids Bids
+Award: relatedBid text, relatedBids [text]
+Contract: relatedBids [text]
Bids: statistics [BidStatistic], details [Bid]
BidStatistic: id! text, measure! ~statistic, date date, value! number, valueGross number, currency =currency,
    notes text, relatedLot text
Bid: id! text, identifiers [Identifier], submissionType =submissionType, date date, description text,
    status =bidStatus, items [Item], tenderers [OrganizationReference], value Value, validityPeriod Period,
    documents [Document], relatedLots [text], countriesOfOrigin [text], hasRank boolean, rank integer, variant boolean
""",
    "budgetBreakdown": """
+Budget: budgetBreakdown [BudgetBreakdown]
BudgetBreakdown: id! id, description text, amount SignedValue, uri url, period Period,
    sourceParty OrganizationReference
""",
    "contractSuppliers": """
+Contract: suppliers [OrganizationReference]
""",
    "enquiries": """
+Tender: enquiries [Enquiry]
Enquiry: id! text, date date, author OrganizationReference, title text, description text, answer text,
    dateAnswered date, relatedItem text, relatedLot text, threadID text
""",
    "legalBasis": """
+Tender: crossBorderLaw text, legalBasis Classification
""",
    "location": """
+Tender: deliveryLocations [Location], deliveryAddresses [Address]
+Item: deliveryLocations [Location], deliveryLocation Location, deliveryAddresses [Address], deliveryAddress Address
+Address: description text
Location: description text, geometry Geometry, gazetteer Gazetteer, uri url
Geometry: type =geometryType, coordinates any
Gazetteer: scheme text, identifiers [text]
""",
    "lots": """
+Tender: lots [Lot], lotDetails LotDetails, lotGroups [LotGroup]
+Document: relatedLots [text]
+Item: relatedLot text
+Milestone: relatedLots [text]
+Award: relatedLots [text]
+Amendment: relatedLots [text]
+RelatedProcess: relatedLots [text]
Lot: id! text, identifiers [Identifier], title text, description text, status =tenderStatus, value Value,
    minimumValue Value, tenderPeriod Period, contractPeriod Period, buyer OrganizationReference,
    additionalClassifications [Classification], mainProcurementCategory =procurementCategory,
    additionalProcurementCategories [~extendedProcurementCategory], enquiryPeriod Period, milestones [Milestone],
    submissionMethodDetails text, submissionTerms object
LotDetails: maximumLotsBidPerSupplier integer, maximumLotsAwardedPerSupplier integer, awardCriteriaDetails text
LotGroup: id! text, identifiers [Identifier], title text, description text, relatedLots [text],
    optionToCombine boolean, maximumValue Value
""",
    "memberOf": """
+Organization: memberOf [OrganizationReference]
""",
    "milestoneDocuments": "",
    "pagination": "",
    "participationFees": """
+Tender: participationFees [ParticipationFee]
ParticipationFee: type [=participationFeeType], value Value, description text, methodOfPayment [text]
""",
    "partyScale": """
+Details: scale =partyScale
""",
    "processTitle": """
+Release: title text, description text
""",
}
"""Extensions whose rules are here. Those without any use fields that the core has already, or none of a release."""

_REPOSITORIES = {
    "additionalcontactpoints": "additionalContactPoints",
    "bid": "bids",
    "bids": "bids",
    "budget_breakdown": "budgetBreakdown",
    "contract_suppliers": "contractSuppliers",
    "enquiry": "enquiries",
    "enquiries": "enquiries",
    "legalbasis": "legalBasis",
    "location": "location",
    "lots": "lots",
    "lot": "lots",
    "memberof": "memberOf",
    "milestone_documents": "milestoneDocuments",
    "pagination": "pagination",
    "participationfee": "participationFees",
    "partydetails_scale": "partyScale",
    "process_title": "processTitle",
}
"""Name of an extension's repository, without ``ocds_`` and ``_extension``, in lower case → the name above."""

CODE_LISTS: dict[str, str] = {
    "awardCriteria": "priceOnly costOnly qualityOnly ratedCriteria lowestCost bestProposal bestValueToGovernment "
    "singleBidOnly",
    "awardStatus": "pending active cancelled unsuccessful",
    "bidStatus": "invited pending valid disqualified withdrawn",
    "contractStatus": "pending active cancelled terminated",
    # ISO 4217, with what is no longer used, as the standard has it.
    "currency": "ADP AED AFA AFN ALK ALL AMD ANG AOA AOK AON AOR ARA ARP ARS ARY ATS AUD AWG AYM AZM AZN BAD BAM BBD "
    "BDT BEC BEF BEL BGJ BGK BGL BGN BHD BIF BMD BND BOB BOP BOV BRB BRC BRE BRL BRN BRR BSD BTN BUK BWP BYB BYN BYR "
    "BZD CAD CDF CHC CHE CHF CHW CLF CLP CNY COP COU CRC CSD CSJ CSK CUC CUP CVE CYP CZK DDM DEM DJF DKK DOP DZD ECS "
    "ECV EEK EGP ERN ESA ESB ESP ETB EUR FIM FJD FKP FRF GBP GEK GEL GHC GHP GHS GIP GMD GNE GNF GNS GQE GRD GTQ GWE "
    "GWP GYD HKD HNL HRD HRK HTG HUF IDR IEP ILP ILR ILS INR IQD IRR ISJ ISK ITL JMD JOD JPY KES KGS KHR KMF KPW KRW "
    "KWD KYD KZT LAJ LAK LBP LKR LRD LSL LSM LTL LTT LUC LUF LUL LVL LVR LYD MAD MDL MGA MGF MKD MLF MMK MNT MOP MRO "
    "MRU MTL MTP MUR MVQ MVR MWK MXN MXP MXV MYR MZE MZM MZN NAD NGN NIC NIO NLG NOK NPR NZD OMR PAB PEH PEI PEN PES "
    "PGK PHP PKR PLN PLZ PTE PYG QAR RHD ROK ROL RON RSD RUB RUR RWF SAR SBD SCR SDD SDG SDP SEK SGD SHP SIT SKK SLE "
    "SLL SOS SRD SRG SSP STD STN SUR SVC SYP SZL THB TJR TJS TMM TMT TND TOP TPE TRL TRY TTD TWD TZS UAH UAK UGS UGW "
    "UGX USD USN USS UYI UYN UYP UYU UYW UZS VEB VED VEF VES VNC VND VUV WST XAD XAF XAG XAU XBA XBB XBC XBD XCD XCG "
    "XDR XEU XFO XFU XOF XPD XPF XPT XRE XSU XTS XUA XXX YDD YER YUD YUM YUN ZAL ZAR ZMK ZMW ZRN ZRZ ZWC ZWD ZWG ZWL "
    "ZWN ZWR",
    "documentType": "plannedProcurementNotice tenderNotice awardNotice contractNotice completionCertificate "
    "procurementPlan biddingDocuments technicalSpecifications evaluationCriteria evaluationReports contractDraft "
    "contractSigned contractArrangements contractSchedule physicalProgressReport financialProgressReport finalAudit "
    "hearingNotice marketStudies eligibilityCriteria clarifications shortlistedFirms environmentalImpact "
    "assetAndLiabilityAssessment riskProvisions winningBid complaints contractAnnexe contractGuarantees subContract "
    "needsAssessment feasibilityStudy projectPlan billOfQuantity bidders conflictOfInterest debarments illustration "
    "submissionDocuments contractSummary cancellationDetails",
    "extendedProcurementCategory": "goods works services consultingServices",
    "geometryType": "Point MultiPoint LineString MultiLineString Polygon MultiPolygon",
    "initiationType": "tender",
    "itemClassificationScheme": "CPV CPVS GSIN UNSPSC CPC OKDP OKPD CUCOP NAICS PSC HS",
    "method": "open selective limited direct",
    "milestoneStatus": "scheduled met notMet partiallyMet",
    "milestoneType": "preProcurement approval engagement assessment delivery reporting financing payment",
    "participationFeeType": "document deposit submission win",
    "partyRole": "buyer procuringEntity supplier tenderer funder enquirer payer payee reviewBody interestedParty",
    "partyScale": "micro sme large",
    "procurementCategory": "goods works services",
    "relatedProcess": "framework planning parent prior unsuccessfulProcess subContract replacementProcess "
    "renewalProcess",
    "relatedProcessScheme": "ocid",
    "releaseTag": "planning planningUpdate tender tenderAmendment tenderUpdate tenderCancellation award awardUpdate "
    "awardCancellation contract contractUpdate contractAmendment implementation implementationUpdate "
    "contractTermination compiled",
    "statistic": "requests bids validBids disqualifiedBids lowestValidBidValue highestValidBidValue bidders "
    "qualifiedBidders disqualifiedBidders electronicBids microBids smeBids smallBids mediumBids foreignBids "
    "foreignBidsFromEU foreignBidsFromNonEU tendersAbnormallyLow",
    "submissionMethod": "electronicSubmission electronicAuction written inPerson",
    "submissionType": "expressionOfInterest bid",
    "tenderStatus": "planning planned active cancelled unsuccessful complete withdrawn",
    "unitClassificationScheme": "UNCEFACT QUDT",
}


COMPARED = frozenset(
    {
        "Award",
        "Contract",
        "Document",
        "Milestone",
        "OrganizationReference",
        "Period",
        "RelatedProcess",
        "SignedValue",
        "Value",
    }
)
"""Objects that the checks of consistency.py compare."""


NAMED_BY_SCHEME = frozenset({"Classification", "Identifier"})
"""Objects whose id is one within a scheme: the same id may be in an array twice."""


class Kind(Enum):
    """What a field's value must be, and what is asked of it besides its type."""

    PLAIN = "plain"
    """Nothing."""
    DATE = "date"
    CODE = "code"
    URL = "url"
    OBJECT = "object"
    """It has a shape of its own."""


TYPES: dict[str, frozenset[type]] = {
    "text": frozenset({str}),
    "date": frozenset({str}),
    "url": frozenset({str}),
    "id": frozenset({str, int}),
    "number": frozenset({int, float}),
    "integer": frozenset({int}),
    "boolean": frozenset({bool}),
    "object": frozenset({dict}),
    "any": frozenset({str, int, float, bool, dict, list}),
}
"""Word of the notation → types of a decoded value."""


@dataclass(slots=True, eq=False)
class Shape:
    """What an object may have and must have."""

    name: str
    fields: "dict[str, Field]" = field(default_factory=dict)
    required: tuple[str, ...] = ()
    compared: bool = False
    """It is one of :data:`COMPARED`."""
    has_own_ids: bool = True
    """It is none of :data:`NAMED_BY_SCHEME`."""


@dataclass(slots=True, eq=False)
class Field:
    """What a field must be; ``array``: an array of such values."""

    kind: Kind
    types: frozenset[type]
    array: bool
    shape: Shape | None = None
    """For :attr:`Kind.OBJECT`."""
    codes: frozenset[str] = frozenset()
    """For :attr:`Kind.CODE`."""
    is_open: bool = False

    @property
    def is_text(self) -> bool:
        """Whether it is text for people, which may be translated."""
        return self.kind is Kind.PLAIN and not self.array and self.types == TYPES["text"]


@dataclass(frozen=True)
class Declared:
    """The extensions that packages declare: those whose rules are here, and the names of the others."""

    known: tuple[str, ...]
    unknown: tuple[str, ...]


_EXTENSION_URL = re.compile(r"/ocds_([A-Za-z0-9_]+)_extension/")
_FALLBACK_NAME = re.compile(r"([^/]+)(?:/(?:v?\d[\w.-]*|master|main))?/extension\.json$")


def declared_extensions(urls: Iterable[str]) -> Declared:
    """Tell which of the extensions, named by the addresses of their ``extension.json``, are among :data:`EXTENSIONS`.

    Whatever the version: what changed from one to another is mostly what was added.
    """
    known, unknown = set(), set()
    for url in urls:
        found = _EXTENSION_URL.search(url)
        name = _REPOSITORIES.get(found[1].lower()) if found else None
        if name is not None:
            known.add(name)
        else:
            fallback = _FALLBACK_NAME.search(url)
            unknown.add(found[1] if found else fallback[1] if fallback else url)
    return Declared(tuple(sorted(known)), tuple(sorted(unknown)))


def release_shape(extensions: Iterable[str] = ()) -> Shape:
    """Return what a release must be, with the fields that the named extensions add."""
    lines: dict[str, list[str]] = {}
    for text in (CORE, *(EXTENSIONS[name] for name in extensions)):
        for name, fields in _parse(text):
            lines.setdefault(name, []).extend(fields)
    shapes = {name: Shape(name, compared=name in COMPARED, has_own_ids=name not in NAMED_BY_SCHEME) for name in lines}
    for name, fields in lines.items():
        _fill(shapes[name], fields, shapes)
    return shapes["Release"]


def _parse(text: str) -> Iterable[tuple[str, list[str]]]:
    """Yield each object's name and its fields."""
    for line in text.replace("\n    ", " ").strip().splitlines():
        name, _, fields = line.partition(":")
        yield name.removeprefix("+").strip(), [part.strip() for part in fields.split(",") if part.strip()]


def _fill(shape: Shape, fields: Iterable[str], shapes: Mapping[str, Shape]) -> None:
    required = []
    for text in fields:
        name, type_ = text.split()
        if name.endswith("!"):
            name = name.removesuffix("!")
            required.append(name)
        shape.fields[name] = _field(type_, shapes)
    shape.required = tuple(required)


def _field(type_: str, shapes: Mapping[str, Shape]) -> Field:
    array = type_.startswith("[")
    word = type_.strip("[]")
    if word[0] in "=~":
        codes = frozenset(CODE_LISTS[word[1:]].split())
        return Field(Kind.CODE, TYPES["text"], array, codes=codes, is_open=word[0] == "~")
    if word in TYPES:
        kind = {"date": Kind.DATE, "url": Kind.URL}.get(word, Kind.PLAIN)
        return Field(kind, TYPES[word], array)
    return Field(Kind.OBJECT, TYPES["object"], array, shape=shapes[word])
