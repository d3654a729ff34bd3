"""Model classes of vLLM: which releases lack one, and which cannot be staged or take adapters.

Names of `vllm/model_executor/models/registry.py` in the source archives of the releases named here, as far as selfhost
knows the model; the interfaces SupportsPP and SupportsLoRA of the classes in 0.32.0. Read 2026-11-26. A release between
two that were read is given the benefit of the doubt. A class that a release lacks may run there through transformers,
whose memory is not known.
"""

from __future__ import annotations

from selfhost.engines import Objection, Serving

# The last release that was read without the classes, and the first that was read with them.
_READ = {
    ((0, 6, 6), (0, 7, 3)): """
        DeepseekVLV2ForCausalLM GLM4VForCausalLM InternLM2ForRewardModel InternLM3ForCausalLM
        Mamba2ForCausalLM MiniCPMO Qwen2ForProcessRewardModel Qwen2_5_VLForConditionalGeneration
        WhisperForConditionalGeneration
    """,
    ((0, 7, 3), (0, 8, 5)): """
        Gemma3ForCausalLM Gemma3ForConditionalGeneration Glm4ForCausalLM GraniteMoeSharedForCausalLM
        GraniteSpeechForConditionalGeneration GteModel KimiVLForConditionalGeneration
        Llama4ForConditionalGeneration Mistral3ForConditionalGeneration
        ModernBertForSequenceClassification NomicBertModel Phi4MMForCausalLM Qwen2_5OmniModel
        Qwen3ForCausalLM Qwen3MoeForCausalLM SkyworkR1VChatModel SmolVLMForConditionalGeneration
        TeleFLMForCausalLM TransformersForCausalLM Zamba2ForCausalLM
    """,
    ((0, 8, 5), (0, 9, 2)): """
        Dots1ForCausalLM Ernie4_5_MoeForCausalLM FalconH1ForCausalLM GPT2ForSequenceClassification
        Gemma3nForConditionalGeneration Glm4vForConditionalGeneration GraniteMoeHybridForCausalLM
        GteNewModel HunYuanMoEV1ForCausalLM KeyeForConditionalGeneration MiMoForCausalLM
        ModernBertModel NemotronHForCausalLM Ovis Qwen2_5OmniForConditionalGeneration
    """,
    ((0, 9, 2), (0, 10, 2)): """
        ApertusForCausalLM ArceeForCausalLM BailingMoeForCausalLM
        Cohere2VisionForConditionalGeneration Ernie4_5ForCausalLM
        Ernie4_5_VLMoeForConditionalGeneration Exaone4ForCausalLM Gemma3TextModel Gemma3nForCausalLM
        Glm4MoeForCausalLM Glm4vMoeForConditionalGeneration GptOssForCausalLM
        GteNewForSequenceClassification HunYuanDenseV1ForCausalLM InternS1ForConditionalGeneration
        InternVLForConditionalGeneration JinaVLForRanking KeyeVL1_5ForConditionalGeneration
        Lfm2ForCausalLM Llama4ForCausalLM Ovis2_5 Qwen3NextForCausalLM RForConditionalGeneration
        SeedOssForCausalLM SmolLM3ForCausalLM Step3TextForCausalLM Step3VLForConditionalGeneration
        VoxtralForConditionalGeneration
    """,
    ((0, 10, 2), (0, 11, 2)): """
        AfmoeForCausalLM BailingMoeV2ForCausalLM BeeForConditionalGeneration
        BertForTokenClassification BertSpladeSparseEmbeddingModel CLIPModel CwmForCausalLM
        DeepseekOCRForCausalLM DeepseekV32ForCausalLM DotsOCRForCausalLM FlexOlmoForCausalLM
        KimiLinearForCausalLM Lfm2MoeForCausalLM LightOnOCRForConditionalGeneration
        LongcatFlashForCausalLM MiniMaxM2ForCausalLM ModernBertForTokenClassification
        NemotronH_Nano_VL_V2 Olmo3ForCausalLM PaddleOCRVLForConditionalGeneration
        PanguEmbeddedForCausalLM PanguUltraMoEForCausalLM Qwen3OmniMoeForConditionalGeneration
        Qwen3VLForConditionalGeneration Qwen3VLMoeForConditionalGeneration SiglipModel
        TransformersEmbeddingModel TransformersForSequenceClassification
        TransformersMoEEmbeddingModel TransformersMoEForCausalLM
        TransformersMoEForSequenceClassification
    """,
    ((0, 11, 2), (0, 12, 0)): """
        HunYuanVLForConditionalGeneration MistralLarge3ForCausalLM OpenCUAForConditionalGeneration
        Plamo3ForCausalLM
    """,
    ((0, 12, 0), (0, 13, 0)): """
        AudioFlamingo3ForConditionalGeneration BagelForConditionalGeneration Jais2ForCausalLM
    """,
    ((0, 13, 0), (0, 16, 0)): """
        BgeM3EmbeddingModel DeepseekOCR2ForCausalLM Eagle2_5_VLForConditionalGeneration
        ExaoneMoEForCausalLM Glm4MoeLiteForCausalLM GlmAsrForConditionalGeneration
        GlmMoeDsaForCausalLM GlmOcrForConditionalGeneration HF_ColBERT IQuestCoderForCausalLM
        IQuestLoopCoderForCausalLM IsaacForConditionalGeneration KimiK25ForConditionalGeneration
        Lfm2VlForConditionalGeneration LlamaBidirectionalForSequenceClassification
        LlamaBidirectionalModel MiMoV2FlashForCausalLM Molmo2ForConditionalGeneration
        NemotronHPuzzleForCausalLM OpenPanguVLForConditionalGeneration PanguProMoEV2ForCausalLM
        Qwen3ASRForConditionalGeneration Step1ForCausalLM Step3p5ForCausalLM
        StepVLForConditionalGeneration VoyageQwen3BidirectionalEmbedModel
    """,
    ((0, 16, 0), (0, 17, 1)): """
        AXK1ForCausalLM BailingMoeV2_5ForCausalLM ColBERTJinaRobertaModel ColBERTModernBertModel
        ColQwen3 LlamaNemotronVLForSequenceClassification LlamaNemotronVLModel OpsColQwen3Model
        Ovis2_6ForCausalLM Ovis2_6_MoeForCausalLM Qwen3ASRRealtimeGeneration
        Qwen3VLNemotronEmbedModel Qwen3_5ForConditionalGeneration Qwen3_5MoeForConditionalGeneration
    """,
    ((0, 17, 1), (0, 18, 1)): """
        ColPaliForRetrieval HCXVisionV2ForCausalLM HyperCLOVAXForCausalLM MoonshotKimiaForCausalLM
        OlmoHybridForCausalLM SarvamMLAForCausalLM SarvamMoEForCausalLM
    """,
    ((0, 18, 1), (0, 19, 1)): """
        ColBERTLfm2Model ColQwen3_5 Gemma4ForCausalLM Gemma4ForConditionalGeneration
    """,
    ((0, 19, 1), (0, 20, 1)): """
        DeepseekV4ForCausalLM Exaone4_5_ForConditionalGeneration
        Granite4VisionForConditionalGeneration HYV3ForCausalLM JinaEmbeddingsV5Model JinaForRanking
        Ministral3ForCausalLM NemotronH_Nano_Omni_Reasoning_V3 NemotronH_Super_Omni_Reasoning_V3
        Param2MoEForCausalLM Phi4ForCausalLMV Rnj1ForCausalLM TeleChat3ForCausalLM
    """,
    ((0, 20, 1), (0, 21, 0)): """
        Cohere2MoeForCausalLM LagunaForCausalLM MiMoV2ForCausalLM
    """,
    ((0, 21, 0), (0, 22, 1)): """
        MellumForCausalLM MiniCPMV4_6ForConditionalGeneration OpenVLAForActionPrediction
    """,
    ((0, 22, 1), (0, 23, 0)): """
        Cosmos3ForConditionalGeneration Gemma4UnifiedForConditionalGeneration
        GraniteSpeechPlusForConditionalGeneration Step3p7ForConditionalGeneration
    """,
    ((0, 23, 0), (0, 24, 0)): """
        DiffusionGemmaForBlockDiffusion HrmTextForCausalLM MiniMaxM3SparseForCausalLM
        MiniMaxM3SparseForConditionalGeneration
    """,
    ((0, 24, 0), (0, 25, 1)): """
        LlavaOnevision2ForConditionalGeneration MossTranscribeDiarizeForConditionalGeneration
        OpenAIPrivacyFilterForTokenClassification UnlimitedOCRForCausalLM
    """,
    ((0, 25, 1), (0, 26, 0)): """
        BertForMaskedLM InklingForCausalLM InklingForConditionalGeneration
        LongcatFlashNgramForCausalLM RobertaForTokenClassification XLMRobertaForTokenClassification
    """,
    ((0, 26, 0), (0, 27, 1)): """
        ExaoneMoeForCausalLM KimiK3ForConditionalGeneration Qwen3_5ForCausalLM Qwen3_5MoeForCausalLM
        VaultGemmaForCausalLM
    """,
    ((0, 27, 1), (0, 28, 0)): """
        BailingMoeV3ForCausalLM MuseGlimmerForCausalLM MuseGlimmerForConditionalGeneration
    """,
    ((0, 28, 0), (0, 29, 0)): """
        DeepseekV3BidirectionalModel GraniteMoeSWAForCausalLM GraniteSWAForCausalLM HYV4ForCausalLM
        NemotronH_Omni_Reasoning_V3 Qwen4ExpForCausalLM Qwen4ExpForConditionalGeneration
    """,
    ((0, 29, 0), (0, 30, 0)): """
        BailingMoeV3VLForConditionalGeneration DeepseekV41ForCausalLM
        DeepseekV4ForConditionalGeneration Glm5NextForCausalLM Glm5NextForConditionalGeneration
        K2HorizonForCausalLM
    """,
    ((0, 31, 0), (0, 32, 0)): """
        EmbeddingGemma2Model MiniCPMV4_7ForConditionalGeneration
    """,
}
# The first release that was read without them again.
_GONE = {
    (0, 24, 0): "Dots1ForCausalLM",
}
# config/model.py verify_with_parallel_config: "Pipeline parallelism is not supported for this model".
_ONE_STAGE = """
    AriaForConditionalGeneration BertForMaskedLM BertForSequenceClassification
    BertForTokenClassification BertModel BertSpladeSparseEmbeddingModel BgeM3EmbeddingModel
    CLIPModel ColBERTJinaRobertaModel ColBERTLfm2Model ColBERTModernBertModel
    DiffusionGemmaForBlockDiffusion GPT2ForSequenceClassification Gemma3TextModel Gemma3nForCausalLM
    Gemma3nForConditionalGeneration GteModel GteNewForSequenceClassification GteNewModel HF_ColBERT
    HrmTextForCausalLM IQuestLoopCoderForCausalLM Idefics3ForConditionalGeneration JinaForRanking
    Mamba2ForCausalLM ModernBertForSequenceClassification ModernBertForTokenClassification
    ModernBertModel NemotronH_Nano_Omni_Reasoning_V3 NemotronH_Nano_VL_V2
    NemotronH_Omni_Reasoning_V3 NemotronH_Super_Omni_Reasoning_V3 NomicBertModel
    OpenAIPrivacyFilterForTokenClassification PaddleOCRVLForConditionalGeneration Phi4MMForCausalLM
    RobertaForMaskedLM RobertaForSequenceClassification RobertaForTokenClassification RobertaModel
    SiglipModel SmolVLMForConditionalGeneration VoyageQwen3BidirectionalEmbedModel
    WhisperForConditionalGeneration XLMRobertaForSequenceClassification
    XLMRobertaForTokenClassification XLMRobertaModel Zamba2ForCausalLM
"""
# v1/worker/lora_model_runner_mixin.py: "does not support LoRA yet".
_NO_ADAPTERS = """
    AriaForConditionalGeneration BailingMoeV2_5ForCausalLM BailingMoeV3ForCausalLM
    BailingMoeV3VLForConditionalGeneration BeeForConditionalGeneration BertForMaskedLM
    BertForSequenceClassification BertForTokenClassification BloomForCausalLM CLIPModel
    Cohere2MoeForCausalLM Cohere2VisionForConditionalGeneration ColBERTJinaRobertaModel
    ColBERTLfm2Model ColBERTModernBertModel DbrxForCausalLM DeepseekV41ForCausalLM
    DeepseekVLV2ForCausalLM DiffusionGemmaForBlockDiffusion FalconForCausalLM FalconMambaForCausalLM
    GPT2ForSequenceClassification GPT2LMHeadModel GPTJForCausalLM Gemma3TextModel Gemma3nForCausalLM
    Gemma3nForConditionalGeneration Glm5NextForCausalLM GteModel GteNewForSequenceClassification
    GteNewModel HCXVisionV2ForCausalLM HrmTextForCausalLM IQuestLoopCoderForCausalLM JinaForRanking
    KimiK25ForConditionalGeneration KimiK3ForConditionalGeneration KimiLinearForCausalLM
    KimiVLForConditionalGeneration LlavaOnevision2ForConditionalGeneration
    LlavaOnevisionForConditionalGeneration Mamba2ForCausalLM MambaForCausalLM MiMoV2FlashForCausalLM
    MiMoV2ForCausalLM MiniMaxM3SparseForCausalLM MiniMaxM3SparseForConditionalGeneration
    ModernBertForSequenceClassification ModernBertForTokenClassification MoonshotKimiaForCausalLM
    MossTranscribeDiarizeForConditionalGeneration NomicBertModel
    OpenAIPrivacyFilterForTokenClassification OpenVLAForActionPrediction OrionForCausalLM Ovis
    Ovis2_5 Ovis2_6ForCausalLM Ovis2_6_MoeForCausalLM PaddleOCRVLForConditionalGeneration
    Phi3VForCausalLM Phi4ForCausalLMV Qwen2AudioForConditionalGeneration RForConditionalGeneration
    RobertaForTokenClassification SiglipModel SkyworkR1VChatModel StableLmForCausalLM
    Step1ForCausalLM Step3TextForCausalLM Step3VLForConditionalGeneration Step3p5ForCausalLM
    Step3p7ForConditionalGeneration StepVLForConditionalGeneration XLMRobertaForTokenClassification
    Zamba2ForCausalLM
"""
_LACKS = {name: span for span, names in _READ.items() for name in names.split()}
_WHOLE, _BARE = frozenset(_ONE_STAGE.split()), frozenset(_NO_ADAPTERS.split())
_LEFT = {name: since for since, names in _GONE.items() for name in names.split()}


def model_objection(serving: Serving) -> Objection | None:
    """Models without a class in the release, or whose class lacks what is asked of it."""
    name, number = serving.architecture, serving.version.number
    span, gone = _LACKS.get(name), _LEFT.get(name)
    if span is not None and number <= span[0]:
        first = ".".join(map(str, span[1]))
        return Objection(
            because=f"{serving.version} has no class for {name}", hint=f"Take --engine vllm@{first} or newer."
        )
    if gone is not None and number >= gone:
        return Objection(
            because=f"{serving.version} has no class for {name} any more", hint="Take an older release."
        )
    if serving.split.pipeline > 1 and name in _WHOLE:
        return Objection(
            because=f"vLLM does not divide {name} into pipeline stages", hint="Take --tp instead of --pp."
        )
    if serving.workload.max_loras > 0 and name in _BARE:
        return Objection(because=f"vLLM loads no adapters for {name}", hint="Leave --max-loras out.")
    return None
