"""Model classes of SGLang, each with the first release that was read to have it.

`EntryClass` of sglang/srt/models/ in the wheels of the releases named here, as far as selfhost knows the model, read
2026-11-26. A class that is missing is served through transformers, whose memory is not known.
"""

from __future__ import annotations

_SINCE = {
    (0, 5, 3): """
        ApertusForCausalLM ArceeForCausalLM BailingMoeForCausalLM BailingMoeV2ForCausalLM
        BertForSequenceClassification BertModel CLIPModel ChatGLMModel Cohere2ForCausalLM CohereForCausalLM
        DbrxForCausalLM DeciLMForCausalLM DeepseekForCausalLM DeepseekV2ForCausalLM DeepseekV32ForCausalLM
        DeepseekV3ForCausalLM DotsOCRForCausalLM Ernie4_5_MoeForCausalLM ExaoneForCausalLM
        FalconH1ForCausalLM GPT2LMHeadModel GPTBigCodeForCausalLM Gemma2ForCausalLM Gemma3ForCausalLM
        Gemma3ForConditionalGeneration Gemma3nForCausalLM Gemma3nForConditionalGeneration GemmaForCausalLM
        Glm4ForCausalLM Glm4MoeForCausalLM Glm4vForConditionalGeneration Glm4vMoeForConditionalGeneration
        GptOssForCausalLM GraniteForCausalLM GraniteMoeForCausalLM HunYuanDenseV1ForCausalLM
        HunYuanMoEV1ForCausalLM InternLM2ForCausalLM InternLM2ForRewardModel InternLM3ForCausalLM
        InternS1ForConditionalGeneration InternVLChatModel KimiVLForConditionalGeneration Llama4ForCausalLM
        Llama4ForConditionalGeneration LlamaForCausalLM LlavaForConditionalGeneration
        LongcatFlashForCausalLM MiMoForCausalLM MiniCPM3ForCausalLM MiniCPMForCausalLM MiniCPMO MiniCPMV
        Mistral3ForConditionalGeneration MistralForCausalLM MistralModel MixtralForCausalLM OPTForCausalLM
        Olmo2ForCausalLM OlmoForCausalLM OlmoeForCausalLM Phi3ForCausalLM Phi4MMForCausalLM PhiForCausalLM
        PhiMoEForCausalLM Qwen2AudioForConditionalGeneration Qwen2ForCausalLM Qwen2ForRewardModel
        Qwen2MoeForCausalLM Qwen2VLForConditionalGeneration Qwen2_5_VLForConditionalGeneration
        Qwen3ForCausalLM Qwen3MoeForCausalLM Qwen3NextForCausalLM Qwen3VLForConditionalGeneration
        Qwen3VLMoeForConditionalGeneration SolarForCausalLM StableLmForCausalLM Starcoder2ForCausalLM
        Step3VLForConditionalGeneration TransformersForCausalLM XLMRobertaForSequenceClassification
        XLMRobertaModel
    """,
    (0, 5, 5): """
        DeepseekOCRForCausalLM KimiLinearForCausalLM MiniMaxM2ForCausalLM NemotronHForCausalLM
        Qwen3OmniMoeForConditionalGeneration
    """,
    (0, 5, 8): """
        AfmoeForCausalLM Glm4MoeLiteForCausalLM GlmAsrForConditionalGeneration IQuestCoderForCausalLM
        IQuestLoopCoderForCausalLM MiMoV2FlashForCausalLM Ministral3ForCausalLM MistralLarge3ForCausalLM
        NemotronH_Nano_VL_V2 OrionForCausalLM PaddleOCRVLForConditionalGeneration TeleFLMForCausalLM
    """,
    (0, 5, 10): """
        BailingMoeV2_5ForCausalLM Ernie4_5_VLMoeForConditionalGeneration Exaone4ForCausalLM
        ExaoneMoEForCausalLM GPTJForCausalLM GlmMoeDsaForCausalLM GlmOcrForConditionalGeneration
        GraniteMoeHybridForCausalLM KimiK25ForConditionalGeneration Lfm2ForCausalLM Lfm2MoeForCausalLM
        Lfm2VlForConditionalGeneration LightOnOCRForConditionalGeneration Qwen3_5ForConditionalGeneration
        Qwen3_5MoeForConditionalGeneration SarvamMLAForCausalLM SarvamMoEForCausalLM Step3p5ForCausalLM
        StepVLForConditionalGeneration TransformersEmbeddingModel TransformersForSequenceClassification
        TransformersMoEEmbeddingModel TransformersMoEForCausalLM TransformersMoEForSequenceClassification
        WhisperForConditionalGeneration
    """,
    (0, 5, 12): """
        DeepseekV4ForCausalLM Gemma4ForCausalLM Gemma4ForConditionalGeneration HYV3ForCausalLM
        LagunaForCausalLM MiMoV2ForCausalLM MiniCPMV4_6ForConditionalGeneration
        NemotronH_Nano_Omni_Reasoning_V3 Qwen3ASRForConditionalGeneration VoxtralForConditionalGeneration
    """,
    (0, 5, 15): """
        Cohere2MoeForCausalLM Cohere2VisionForConditionalGeneration Gemma4UnifiedForConditionalGeneration
        HrmTextForCausalLM NemotronHPuzzleForCausalLM Step3p7ForConditionalGeneration
        UnlimitedOCRForCausalLM
    """,
    (0, 5, 19): """
        BailingMoeV3ForCausalLM GraniteMoeSWAForCausalLM GraniteMoeSharedForCausalLM GraniteSWAForCausalLM
        InklingForConditionalGeneration KimiK3ForConditionalGeneration MellumForCausalLM
        MiniMaxM3SparseForCausalLM MiniMaxM3SparseForConditionalGeneration MuseGlimmerForCausalLM
        MuseGlimmerForConditionalGeneration Qwen3_5ForCausalLM Qwen3_5MoeForCausalLM
    """,
    (0, 5, 20): """
        Cosmos3ForConditionalGeneration FalconMambaForCausalLM Glm5NextForConditionalGeneration
        HYV4ForCausalLM K2HorizonForCausalLM Mamba2ForCausalLM MambaForCausalLM NemotronH_Omni_Reasoning_V3
        Qwen4ExpForConditionalGeneration
    """,
    (0, 5, 21): """
        BailingMoeV3VLForConditionalGeneration DiffusionGemmaForBlockDiffusion
    """,
    (0, 5, 22): """
        EmbeddingGemma2Model ExaoneMoeForCausalLM
    """,
    (0, 5, 23): """
        MiniCPMV4_7ForConditionalGeneration
    """,
}
ARCHITECTURES = {name: since for since, names in _SINCE.items() for name in names.split()}
