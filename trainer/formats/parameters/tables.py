"""Keys of sd-scripts, of kohya_ss and of lora-scripts that no setting here takes over, each with a reason.

Keys are the arguments of sd-scripts (0.10) and what the two graphical programs add to them.
"""

from __future__ import annotations

_BASE, _DATASET, _BUCKET, _TRAIN = "Load Base Model", "Load Dataset", "Bucket", "the training node"


def _all(sentence: str, keys: str) -> dict[str, str]:
    return dict.fromkeys(keys.split(), sentence)


ELSEWHERE: dict[str, str] = {
    **_all(f"choose the model in {_BASE}.", "pretrained_model_name_or_path vae ae clip_l clip_g t5xxl sd3_clip_l sd3_t5xxl model_list"),
    **_all(f"{_BASE} finds it out of the file.", "v2 v_parameterization sdxl sdxl_checkbox flux1_checkbox sd3_checkbox flux1_clip_l flux1_t5xxl"),
    **_all(
        f"choose the folder in {_DATASET}.",
        "train_data_dir reg_data_dir in_json dataset_config dataset_class caption_extension caption_extention conditioning_data_dir alpha_mask",
    ),
    **_all(f"set the share of held-out images in {_DATASET}.", "validation_split validation_seed"),
    **_all(
        f"set it in {_BUCKET}.",
        "resolution enable_bucket min_bucket_reso max_bucket_reso bucket_reso_steps bucket_no_upscale",
    ),
    **_all(f"repeats belong to the folders' names; see {_DATASET}.", "dataset_repeats"),
    **_all(f"the name is set in {_TRAIN}.", "output_name"),
    **_all("choose the LoRA to go on from in Adapter Settings; a file must not name paths.", "network_weights lora_network_weights dim_from_weights"),
    **_all("choose the LoRAs to merge in Adapter Settings; a file must not name paths.", "base_weights base_weights_multiplier enable_base_weight"),
    **_all(f"set clip skip in {_BASE}.", "clip_skip"),
    **_all("queue the same graph again to resume; the state is always kept.", "resume"),
    **_all(
        f"the captions and sizes are made by {_DATASET} and {_BUCKET}.",
        "create_caption create_buckets generate_caption_database generate_image_buckets",
    ),
    **_all(
        f"choose the folder in {_DATASET}.",
        "image_folder train_dir caption_metadata_filename latent_metadata_filename full_path use_latent_files",
    ),
    **_all("the word is the name in Train Embedding.", "token_string"),
    **_all("choose the embedding to go on from in Train Embedding; a file must not name paths.", "weights"),
}

NOT_NEEDED: dict[str, str] = {
    **_all("runs lie in ComfyUI's output folder.", "output_dir logging_dir"),
    **_all("a log is always written into the run directory.", "log_with log_prefix log_tracker_name log_config log_tracker_config"),
    **_all(
        "nothing is sent anywhere.",
        "wandb_run_name wandb_api_key huggingface_repo_id huggingface_repo_type huggingface_path_in_repo huggingface_token "
        "huggingface_repo_visibility save_state_to_huggingface resume_from_huggingface async_upload",
    ),
    **_all("safetensors is always written.", "save_model_as use_safetensors"),
    **_all("a drawing of the noise levels, without a training.", "show_timesteps show_timesteps_resolution"),
    **_all("the text encoders' outputs are cached in batches of their own.", "text_encoder_batch_size t5xxl_device t5xxl_dtype tokenizer_cache_dir"),
    **_all("metadata is always written.", "training_comment no_metadata"),
    **_all(
        "latents and texts are always cached, and cached anew when images, captions or the model change.",
        "skip_latents_validity_check use_t5xxl_cache_only cache_latents cache_latents_to_disk skip_cache_check cache_text_encoder_outputs cache_text_encoder_outputs_to_disk vae_batch_size cache_info",
    ),
    **_all("attention is chosen for the machine.", "xformers diffusers_xformers sdpa mem_eff_attn flash_attn split_attn attn_mode cross_attention"),
    **_all(
        "the machine's part; it does not change the result.",
        "max_data_loader_n_workers persistent_data_loader_workers lowram lowvram highvram num_cpu_threads_per_process num_processes num_machines multi_gpu "
        "gpu_ids main_process_port extra_accelerate_launch_args ddp_timeout ddp_gradient_as_bucket_view ddp_static_graph deepspeed zero_stage "
        "offload_optimizer_nvme_path offload_param_nvme_path zero3_init_flag zero3_save_16bit_model fp16_master_weights_and_gradients "
        "offload_optimizer_device offload_param_device disable_mmap_load_safetensors console_log_level console_log_file console_log_simple",
    ),
    **_all(
        "the state is always kept.",
        "save_state save_state_on_train_end save_last_n_epochs_state save_last_n_steps_state initial_epoch initial_step skip_until_initial_step",
    ),
    **_all("T5 reads as many tokens as the model was made for.", "t5xxl_max_token_length"),
    **_all("the VAE runs in a number format that does not overflow.", "no_half_vae sdxl_no_half_vae"),
    **_all(
        "a part of the file of settings itself.", "config_file output_config LoRA_type LyCORIS_preset model_train_type train_type folders_to_watch"
    ),
    **_all("as much is computed twice as the free memory asks for; Performance Settings can force it.", "gradient_checkpointing"),
    **_all("it changes speed, not what is learned.", "dynamo_backend dynamo_mode dynamo_use_fullgraph dynamo_use_dynamic"),
    **_all("a help for searching mistakes.", "debug_dataset"),
    **_all(
        "it is for a model that is not known here.",
        "gemma2 gemma2_max_token_length system_prompt use_flash_attn use_sage_attn sample_batch_size cfg_trunc renorm_cfg byt5 fp8_scaled fp8_vl "
        "text_encoder text_encoder_cpu vae_chunk_size vae_disable_cache unsloth_offload_checkpointing qwen3 qwen3_max_token_length llm_adapter_path "
        "llm_adapter_lr t5_tokenizer_path t5_max_token_length cross_attn_lr self_attn_lr mlp_lr mod_lr",
    ),
}

LEFT_OUT: dict[str, str] = {
    **_all("weights of words in captions are not known here.", "weighted_captions"),
    **_all("faces are not cropped to.", "face_crop_aug_range"),
    **_all("the text encoders are trained to the end, or with rate 0 not at all.", "stop_text_encoder_training stop_text_encoder_training_pct"),
    **_all("use weighting min_snr with v prediction.", "scale_v_pred_loss_like_noise_pred v_pred_like_loss"),
    **_all("T5 is trained only where train_t5xxl says so and the text encoders are trained.", "train_t5xxl t5xxl_lr"),
    **_all("FLUX is always trained on what it predicts itself (raw).", "model_prediction_type"),
    **_all("set it per part in Adapter Settings, as a rule.", "down_lr_weight mid_lr_weight up_lr_weight block_lr_zero_threshold network_reg_lrs"),
    **_all(
        "set ranks per part in Adapter Settings, as rules.",
        "block_dims block_alphas conv_block_dims conv_block_alphas img_attn_dim img_mlp_dim img_mod_dim single_dim txt_attn_dim txt_mlp_dim "
        "txt_mod_dim single_mod_dim in_dims emb_dims network_reg_dims enable_block_weights context_attn_dim context_mlp_dim context_mod_dim "
        "x_attn_dim x_mlp_dim x_mod_dim",
    ),
    **_all(
        "choose the blocks in Adapter Settings.",
        "train_blocks train_double_block_indices train_single_block_indices train_block_indices enable_all_linear split_qkv split_mode",
    ),
    **_all("weights are decomposed for LoRA alone; choose dora in Adapter Settings.", "dora_wd"),
    **_all(
        "not known here.",
        "train_lora_ggpo ggpo_beta ggpo_sigma use_scalar use_cp use_tucker rank_dropout_scale train_norm rescaled train_on_input bypass_mode",
    ),
    **_all("not known here.", "constrain constraint unit dylora_unit block_size decompose_factor pos_emb_random_crop_rate enable_scaled_pos_embed"),
    **_all("attention masks of T5 are not used, as in ComfyUI.", "apply_t5_attn_mask apply_lg_attn_mask"),
    **_all("sample pictures are drawn with the family's own sampler.", "sample_sampler"),
    **_all("a file must not name others: put it into ComfyUI's input folder and choose it in Sample Settings.", "prompt_file"),
    **_all("prompts are not chosen by chance, so that epochs can be compared.", "randomly_choice_prompt"),
    **_all(
        "there it takes the place of lr_scheduler; here that one counts. Choose a schedule in the training node.",
        "lr_scheduler_type lr_scheduler_args",
    ),
    **_all("what a LoRA learns is kept in fp32; for a whole model bf16 can be chosen in Train Checkpoint.", "full_fp16 full_bf16"),
    **_all(
        "set rates per part in Adapter Settings, as rules, or choose blocks in Train Checkpoint.",
        "block_lr num_last_block_to_freeze",
    ),
    **_all("captions are padded as ComfyUI does.", "no_token_padding"),
    **_all("models for inpainting are not known here.", "train_inpainting"),
    **_all("text encoders are saved where they were trained.", "save_clip save_t5xxl"),
    **_all("a share of the epochs is not known; set save every epochs.", "save_n_epoch_ratio"),
    **_all("images are held out and measured at every saved epoch.", "validate_every_n_steps validate_every_n_epochs max_validation_steps"),
    **_all("not offered.", "fused_backward_pass fused_optimizer_groups blockwise_fused_optimizers mem_eff_save"),
}

PREFIXES: dict[str, str] = {
    **dict.fromkeys(("hunyuan_", "anima_", "lumina_"), "it is for a model that is not known here."),
    "metadata_": "title, author and the like are not written into the file.",
}
