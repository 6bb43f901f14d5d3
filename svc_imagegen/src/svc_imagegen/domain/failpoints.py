"""
The places between two durable steps of a job where a crash must do no harm, in the order in which a job passes them.

The kill tests end a process at every one of them.
"""

from __future__ import annotations

from typing import Final

# Gateway.
AFTER_RESERVE: Final = "imagegen.after_reserve"  # credits are held, the job is not stored
AFTER_ACCEPT: Final = "imagegen.after_accept"  # the job is stored, the client has not heard of it
# Worker.
AFTER_CLAIM: Final = "imagegen.after_claim"  # an attempt is stored as sent, nothing is sent
AFTER_ANSWER: Final = "imagegen.after_answer"  # the provider has answered, nothing of it is stored
AFTER_STORE: Final = "imagegen.after_store"  # the pictures are in the artefact store, the job does not know
AFTER_SUCCESS: Final = "imagegen.after_success"  # the job has its pictures, credits are still held
AFTER_RELEASE: Final = "imagegen.after_release"  # the job waits again, its message is not handed back yet
AFTER_FAILURE: Final = "imagegen.after_failure"  # failed, credits are still held
AFTER_UNCERTAIN: Final = "imagegen.after_uncertain"  # uncertain, the hold is not disputed yet
# Worker or sweeper: billing has done it, the job does not know.
AFTER_SETTLE: Final = "imagegen.after_settle"
AFTER_VOID: Final = "imagegen.after_void"
AFTER_DISPUTE: Final = "imagegen.after_dispute"
AFTER_LATE_SUCCESS: Final = "imagegen.after_late_success"
AFTER_FINISH: Final = "imagegen.after_finish"  # all is stored, the message is not acknowledged
# Sweeper.
AFTER_LOOK_UP: Final = "imagegen.after_look_up"  # the provider has told the outcome, nothing of it is stored

FAILPOINTS: Final = (
    AFTER_RESERVE, AFTER_ACCEPT, AFTER_CLAIM, AFTER_ANSWER, AFTER_STORE, AFTER_SUCCESS, AFTER_RELEASE, AFTER_FAILURE,
    AFTER_UNCERTAIN, AFTER_SETTLE, AFTER_VOID, AFTER_DISPUTE, AFTER_LATE_SUCCESS, AFTER_FINISH, AFTER_LOOK_UP,
)  # fmt: skip
