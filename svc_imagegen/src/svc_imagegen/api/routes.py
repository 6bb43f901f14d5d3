"""The table of all operations, and the gateway that is made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final, Protocol

from starlette.routing import BaseRoute, Route

from qraft_runtime.clock import Clock
from svc_imagegen.api.account import AccountCalls, AccountView, EstimateView
from svc_imagegen.api.admin import (
    AdminCalls,
    FindingFields,
    FindingList,
    KeyList,
    NewKeyFields,
    NewKeyView,
    ProviderList,
)
from svc_imagegen.api.assets import AssetCalls
from svc_imagegen.api.http import Answer, BodyBudget, Call
from svc_imagegen.api.images import ImageCalls
from svc_imagegen.api.intake import Intake
from svc_imagegen.api.job_views import AssetView, JobAccepted, JobPage, JobView
from svc_imagegen.api.jobs import N_JOBS_MAX, Confirm, JobCalls
from svc_imagegen.api.models import ModelCalls, ModelList, ModelView
from svc_imagegen.api.openapi import document
from svc_imagegen.api.pictures import AssetBytes, ImagesResponse, Rendering
from svc_imagegen.api.probes import ProbeCalls, ProbeFields, ProbeList
from svc_imagegen.api.resource import Edge, Elsewhere, Operation, Parameter, Resource, nowhere
from svc_imagegen.api.terms import GatewayTerms
from svc_imagegen.api.waiting import Waiting
from svc_imagegen.domain.capability import Capability
from svc_imagegen.domain.routing import Catalog
from svc_imagegen.domain.validate import (
    EditByAddress,
    EditFields,
    EstimateFields,
    GenerationFields,
    JobFields,
    VariationFields,
)
from svc_imagegen.ports import (
    AssetStore,
    Billing,
    CapabilityStore,
    Downloads,
    JobChanges,
    JobStore,
    KeyStore,
    Pictures,
    Provider,
)
from svc_imagegen.usecases.accept import AcceptCall, AcceptTerms
from svc_imagegen.usecases.authenticate import ADMIN, READ, WRITE, Authenticate
from svc_imagegen.usecases.gate import CapabilityGate
from svc_imagegen.usecases.probe import Probe, ProbingGate
from svc_imagegen.usecases.references import ReferenceArtefacts, ReferenceIntake

_JSON: Final = "application/json"
_FORM: Final = "multipart/form-data"
_EVENTS: Final = "text/event-stream"
_PICTURES: Final = ("image/png", "image/jpeg", "image/webp", "image/gif")
_PROBE_GRACE_S: Final = 60.0  # between a job's latest end and the moment at which its probe gives up hearing of it
_FILES: Final = ("image", "image[]", "mask")


class Artefacts(ReferenceArtefacts, AssetBytes, Protocol):
    """What the gateway needs of the artefact store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayParts:
    """What the gateway is wired to. confirm: ends a cancellation at once instead of at the next sweep."""

    keys: KeyStore
    jobs: JobStore
    assets: AssetStore
    capabilities: CapabilityStore
    billing: Billing
    providers: Sequence[Provider]
    pictures: Pictures
    downloads: Downloads
    artefacts: Artefacts
    changes: JobChanges
    clock: Clock
    default_model: str
    confirm: Confirm | None = None


class Gateway:
    """The HTTP edge of the service."""

    def __init__(self, parts: GatewayParts, *, terms: GatewayTerms, accept_terms: AcceptTerms) -> None:
        authenticate = Authenticate(parts.keys, clock=parts.clock)
        catalog = catalog_of(parts.providers, default_model=parts.default_model)
        gate = CapabilityGate(parts.capabilities, parts.providers, clock=parts.clock)
        accept = _accept_call(parts, terms, accept_terms, catalog=catalog, gate=gate)
        intake = Intake(terms)
        waiting = Waiting(parts.jobs, parts.changes, n_max=terms.n_waiting_max)
        rendering = Rendering(parts.assets, parts.artefacts)
        self._edge = Edge(authenticate, parts.clock, BodyBudget(terms.bodies_bytes_max))
        self._images = ImageCalls(terms, intake, accept, waiting, rendering)
        self._models = ModelCalls(catalog)
        self._jobs = JobCalls(
            terms=terms,
            intake=intake,
            accept=accept,
            jobs=parts.jobs,
            assets=parts.assets,
            changes=parts.changes,
            clock=parts.clock,
            confirm=parts.confirm,
        )
        self._assets = AssetCalls(parts.assets, parts.artefacts, parts.clock)
        self._account = AccountCalls(terms, accept, parts.billing)
        self._admin = AdminCalls(parts.keys, parts.providers, parts.capabilities, authenticate, gate, parts.clock)
        probe = Probe(
            accept=_accept_call(
                parts,
                terms,
                accept_terms,
                catalog=catalog,
                gate=ProbingGate(parts.capabilities, parts.providers, clock=parts.clock),
            ),
            gate=gate,
            providers=parts.providers,
            capabilities=parts.capabilities,
            jobs=parts.jobs,
            assets=parts.assets,
            changes=parts.changes,
            clock=parts.clock,
        )
        self._probes = ProbeCalls(probe, finding_timeout_s=accept_terms.job_timeout_s + _PROBE_GRACE_S)
        self._document = document(self.operations())

    def routes(self) -> list[BaseRoute]:
        """Return the routes for qraft_runtime.service; the busiest first, for they are matched in order."""
        by_path = groupby(self.operations(), key=lambda it: it.path)
        routes: list[BaseRoute] = [Route(path, Resource(self._edge, list(found))) for path, found in by_path]
        everywhere = [
            Operation(method=it, path="", name="nowhere", summary="", handler=nowhere, scope=None, answers={})
            for it in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
        ]
        routes.append(Elsewhere(Resource(self._edge, everywhere)))
        return routes

    def operations(self) -> list[Operation]:
        """Return every operation, those of one path together."""
        return [*self._job_operations(), *self._openai_operations(), *self._own_operations(), *self._admin_operations()]

    def _job_operations(self) -> list[Operation]:
        jobs = self._jobs
        job_id = (_path("job_id", "The job's id"),)
        page = (
            Parameter(
                name="limit",
                where="query",
                schema={"type": "integer", "minimum": 1, "maximum": N_JOBS_MAX},
                text="How many jobs",
            ),
            Parameter(
                name="before",
                where="query",
                schema={"type": "string", "pattern": "^[0-9a-zA-Z_-]{1,64}$"},
                text="Older than this job",
            ),
        )
        return [
            Operation(
                method="POST", path="/api/jobs", name="createJob", summary="Make pictures; answered at once",
                handler=jobs.create, scope=WRITE, answers={202: (JobAccepted,)},
                body={_JSON: JobFields, _FORM: JobFields}, files=_FILES,
            ),
            Operation(
                method="GET", path="/api/jobs", name="listJobs", summary="The account's jobs, newest first",
                handler=jobs.list, scope=READ, answers={200: (JobPage,)}, parameters=page,
            ),
            Operation(
                method="GET", path="/api/jobs/{job_id}", name="getJob", summary="One job",
                handler=jobs.show, scope=READ, answers={200: (JobView,), 304: ()}, parameters=job_id,
            ),
            Operation(
                method="DELETE", path="/api/jobs/{job_id}", name="deleteJob", summary="Cancel a job that has not begun",
                handler=jobs.cancel, scope=WRITE, answers={200: (JobView,)}, parameters=job_id,
            ),
            Operation(
                method="POST", path="/api/jobs/{job_id}/cancel", name="cancelJob",
                summary="Cancel a job that has not begun", handler=jobs.cancel, scope=WRITE, answers={200: (JobView,)},
                parameters=job_id,
            ),
            Operation(
                method="GET", path="/api/jobs/{job_id}/events", name="followJob",
                summary="Server-sent events job.updated, until the job ends", handler=jobs.events, scope=READ,
                answers={200: (_EVENTS,), 204: ()}, parameters=job_id,
            ),
        ]  # fmt: skip

    def _openai_operations(self) -> list[Operation]:
        images, models = self._images, self._models
        return [
            Operation(
                method="POST", path="/v1/images/generations", name="createImage", summary="OpenAI: make pictures",
                handler=images.generate, scope=WRITE, answers={200: (ImagesResponse, _EVENTS)},
                body={_JSON: GenerationFields},
            ),
            Operation(
                method="POST", path="/v1/images/edits", name="createImageEdit",
                summary="OpenAI: make pictures from pictures", handler=images.edit, scope=WRITE,
                answers={200: (ImagesResponse, _EVENTS)}, body={_JSON: EditByAddress, _FORM: EditFields}, files=_FILES,
            ),
            Operation(
                method="POST", path="/v1/images/variations", name="createImageVariation",
                summary="OpenAI: vary a picture, where a provider can", handler=images.vary, scope=WRITE,
                answers={200: (ImagesResponse,)}, body={_FORM: VariationFields}, files=("image",),
            ),
            Operation(
                method="GET", path="/v1/models", name="listModels", summary="OpenAI: what can be asked for",
                handler=models.list, scope=READ, answers={200: (ModelList,)},
            ),
            Operation(
                method="GET", path="/v1/models/{model:path}", name="retrieveModel", summary="OpenAI: one model",
                handler=models.show, scope=READ, answers={200: (ModelView,)}, parameters=(_path("model", "Its name"),),
            ),
        ]  # fmt: skip

    def _own_operations(self) -> list[Operation]:
        asset_id = (_path("asset_id", "The picture's id"),)
        return [
            Operation(
                method="POST", path="/api/estimate", name="estimate", summary="What a call would cost at most",
                handler=self._account.estimate, scope=READ, answers={200: (EstimateView,)},
                body={_JSON: EstimateFields},
            ),
            Operation(
                method="GET", path="/api/account", name="getAccount", summary="The balance",
                handler=self._account.show, scope=READ, answers={200: (AccountView,)},
            ),
            Operation(
                method="GET", path="/api/assets/{asset_id}", name="getAsset", summary="A picture's record",
                handler=self._assets.show, scope=READ, answers={200: (AssetView,)}, parameters=asset_id,
            ),
            Operation(
                method="GET", path="/api/assets/{asset_id}/content", name="getAssetContent", summary="Its bytes",
                handler=self._assets.content, scope=READ, answers={200: _PICTURES, 206: _PICTURES, 304: ()},
                parameters=asset_id,
            ),
            Operation(
                method="GET", path="/api/openapi.json", name="getDocument", summary="This document",
                handler=self._show_document, scope=None, answers={200: (_JSON,)},
            ),
        ]  # fmt: skip

    def _admin_operations(self) -> list[Operation]:
        admin = self._admin
        account = Parameter(
            name="account_id",
            where="query",
            schema={"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"},
            text="Only this account's",
        )
        return [
            Operation(
                method="POST", path="/api/keys", name="createKey", summary="Make an API key; its text is shown once",
                handler=admin.create_key, scope=ADMIN, answers={201: (NewKeyView,)}, body={_JSON: NewKeyFields},
            ),
            Operation(
                method="GET", path="/api/keys", name="listKeys", summary="API keys, without their texts",
                handler=admin.list_keys, scope=ADMIN, answers={200: (KeyList,)}, parameters=(account,),
            ),
            Operation(
                method="DELETE", path="/api/keys/{key_id}", name="revokeKey", summary="Revoke an API key",
                handler=admin.revoke_key, scope=ADMIN, answers={204: ()}, parameters=(_path("key_id", "Its id"),),
            ),
            Operation(
                method="GET", path="/api/providers", name="listProviders", summary="The configured providers",
                handler=admin.list_providers, scope=ADMIN, answers={200: (ProviderList,)},
            ),
            Operation(
                method="POST", path="/api/probes", name="probe",
                summary="Find out what a provider can do: the price first, calls only with spend",
                handler=self._probes.create, scope=ADMIN, answers={200: (ProbeList,), 202: (ProbeList,)},
                body={_JSON: ProbeFields},
            ),
            Operation(
                method="GET", path="/api/capabilities", name="listCapabilities", summary="What providers can do",
                handler=admin.list_findings, scope=ADMIN, answers={200: (FindingList,)},
            ),
            Operation(
                method="POST", path="/api/capabilities", name="declareCapability",
                summary="Say what a provider can do", handler=admin.declare, scope=ADMIN,
                answers={201: (Capability,)}, body={_JSON: FindingFields},
            ),
        ]  # fmt: skip

    async def _show_document(self, _call: Call) -> Answer:
        return Answer(200, self._document)


def catalog_of(providers: Sequence[Provider], *, default_model: str) -> Catalog:
    """Return the models of the configured providers, in their order."""
    models = [(it.provider_id, model, it.is_simulated) for it in providers for model in it.models()]
    return Catalog(models, default_model=default_model)


def _accept_call(
    parts: GatewayParts, terms: GatewayTerms, accept_terms: AcceptTerms, *, catalog: Catalog, gate: CapabilityGate
) -> AcceptCall:
    references = ReferenceIntake(
        pictures=parts.pictures,
        downloads=parts.downloads,
        artefacts=parts.artefacts,
        n_max=terms.references_max,
        n_bytes_max=terms.reference_bytes_max,
        n_bytes_total_max=terms.body_bytes_max,
    )
    return AcceptCall(
        accept_terms,
        catalog=catalog,
        gate=gate,
        references=references,
        jobs=parts.jobs,
        billing=parts.billing,
        clock=parts.clock,
    )


def _path(name: str, text: str) -> Parameter:
    return Parameter(name=name, where="path", schema={"type": "string", "minLength": 1, "maxLength": 200}, text=text)
