"""The options of other libraries, by their names there: the option here, or why there is none.

``docs/coming_from.md`` shows many of them; a test compares the two.
"""

from __future__ import annotations

_OPTIONS: dict[str, str] = {
    "policy policy.path": "model model_name model_name_or_path model.path pretrain",
    "policy.max_response_length": "max_tokens max_new_tokens max_completion_length max_seq_length response_length",
    "policy.engine": "use_vllm vllm_mode rollout.name num_engines",
    "policy.dtype": "bf16 fp16 torch_dtype",
    "policy.lora_rank": "use_peft peft_config lora_r",
    "data env.source source env": "dataset dataset_name train_dataset train_files prompt_dataset",
    "eval.data eval_env": "eval_dataset val_files",
    "env.verifier reward": "reward_funcs compute_score reward_fn reward_function",
    "train.steps": "max_steps num_steps total_training_steps total_timesteps",
    "train.group_size group_size samples": "num_generations rollout_n rollout.n n_samples_per_prompt",
    "train.prompts_per_step": "train_batch_size rollout.batch_size rollout_batch_size n_steps n_envs",
    "train.updates_per_step": "steps_per_generation ppo_mini_batch_size",
    "train.epochs": "num_train_epochs ppo_epochs num_iterations max_epochs n_epochs",
    "train.micro_batch_tokens": "per_device_train_batch_size micro_batch_size ppo_micro_batch_size_per_gpu",
    "train.learning_rate": "lr max_lr",
    "train.warmup_steps": "warmup_ratio lr_warmup_steps",
    "train.weight_decay": "wd",
    "train.adam_betas": "betas adam_beta1 adam_beta2",
    "train.max_grad_norm": "grad_clip max_norm",
    "train.ahead": "async_enable one_step_off_policy",
    "algo algo.name": "loss_type adv_estimator advantage_estimator",
    "algo.clip_low clip_low clip": "clip_low clip_ratio_low clip_ratio clip_range cliprange epsilon eps eps_clip "
    "eps_clip_low_high",
    "algo.clip_high clip_high": "clip_high epsilon_high clip_ratio_high",
    "algo.dual_clip dual_clip": "delta clip_ratio_c",
    "algo.value_clip value_clip": "clip_range_vf cliprange_value",
    "algo.kl kl coefficient beta_low": "beta kl_coef use_kl_loss kl_loss_coef init_coef init_kl_coef",
    "algo.gamma": "gamma",
    "algo.lam lam": "lam gae_lambda",
    "algo.entropy_coefficient entropy_coefficient": "ent_coef entropy_coeff",
    "algo.value_coefficient value_coefficient": "vf_coef",
    "algo.whiten whiten": "normalize_advantage whiten_advantages",
    "algo.dynamic_sampling dynamic_sampling": "filter_groups dynamic_filtering_enable",
    "algo.overlong_filter overlong_filter": "mask_truncated_completions",
    "algo.soft_length soft_length": "get_soft_overlong_punishment overlong_buffer_cfg soft_punish_cache",
    "algo.overlong_penalty overlong_penalty": "overlong_penalty_factor",
    "algo.partition partition": "quantiles thresholds whole_batch given_partition",
    "checkpoint.every": "save_steps save_freq",
    "checkpoint.keep": "save_total_limit max_ckpt_num",
    "checkpoint.keep_best": "load_best_model_at_end metric_for_best_model",
    "eval.every": "eval_steps test_freq",
    "log.to": "report_to logger wandb.key use_wandb",
    "output": "output_dir default_local_dir",
    "resume": "resume_from_checkpoint resume_mode load_enable",
    "algorithms": "algos",
    "batch": "batch_size",
    "problem": "question prompt",
    "answer": "ground_truth",
    "response": "completion",
}

OPTIONS: dict[str, tuple[str, ...]] = {
    name: tuple(here.split()) for here, names in _OPTIONS.items() for name in names.split()
}
"""For each name the options here, the preferred one first; which of them exist depends on the command."""

_BATCH = (
    "A step has --train.prompts-per-step times --train.group-size responses, divided into --train.updates-per-step "
    "mini-batches for each of --train.epochs; --train.micro-batch-tokens bounds a forward pass."
)
_CUT = "There is no top-p, top-k or min-p: they would bias the importance ratio."
WITHOUT: dict[str, str] = {
    "batch_size": _BATCH,
    "gradient_accumulation_steps": "Gradients are accumulated over as many passes as --train.micro-batch-tokens needs.",
    "top_p": _CUT,
    "top_k": _CUT,
    "min_p": _CUT,
    "disable_dropout": "The model is always trained without dropout.",
    "logging_steps": "Metrics are written after every step.",
    "ref_model": "The reference of a KL term is the policy as it was before training.",
    "scale_rewards": "The algorithm determines the scale: grpo divides by the group's deviation, dr_grpo does not.",
    "importance_sampling_level": "The algorithm determines the level of the ratio: gspo has one ratio per response.",
    "optim": "The optimiser is always AdamW.",
    "lr_scheduler_type": "The learning rate is constant after --train.warmup-steps.",
}
"""Names without an equal among the options, and what to know instead."""
