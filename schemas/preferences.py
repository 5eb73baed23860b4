"""What routers learn from: battles between two models, golden pairs of scores, and single graded answers."""

import dataframely as dy

WINNERS = ("model_a", "model_b", "tie")


class Battles(dy.Schema):
    """One row is one comparison of two models' answers to one prompt (Chatbot Arena's shape)."""

    prompt = dy.String(nullable=False, min_length=1)
    model_a = dy.String(nullable=False)
    model_b = dy.String(nullable=False)
    winner = dy.Enum(list(WINNERS), nullable=False)
    weight = dy.Float64(nullable=False, min=0.0)
    """Share of this row in the loss; a prompt's rows together grow slower than their number."""
    source = dy.String(nullable=False)


class Golden(dy.Schema):
    """One row is one prompt with the grades of the strong and the weak model's answers."""

    prompt = dy.String(nullable=False, min_length=1)
    strong_score = dy.Float64(nullable=False, min=0.0, max=1.0)
    weak_score = dy.Float64(nullable=False, min=0.0, max=1.0)
    source = dy.String(nullable=False)


class Correctness(dy.Schema):
    """One row is one model's graded answer to one prompt: any two models of a prompt make a golden pair."""

    prompt = dy.String(nullable=False, min_length=1)
    model = dy.String(nullable=False)
    score = dy.Float64(nullable=False, min=0.0, max=1.0)
    benchmark = dy.String(nullable=False)
    source = dy.String(nullable=False)
    weight = dy.Float64(nullable=False, min=0.0)
    """Share of this row in the loss."""


class Labels(dy.Schema):
    """One row is what is known of one prompt: how the strong class of models fares against the weak one."""

    prompt = dy.String(nullable=False, min_length=1)
    target = dy.Float64(nullable=False, min=0.0, max=1.0)
    """Weighted mean over the prompt's battles: 1 where the strong side won, 0 where the weak one did, 1/2 for a tie."""
    tie = dy.Float64(nullable=False, min=0.0, max=1.0)
    """Weighted share of ties, so that wins are `target - tie / 2`."""
    weight = dy.Float64(nullable=False, min=0.0)
    """Share of this row in the loss: the sum over its battles."""
    source = dy.String(nullable=False)
