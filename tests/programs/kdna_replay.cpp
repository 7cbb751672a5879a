// The program kdna_replay: 0 within the tolerance, 1 beyond it, 2 with a message where something is wrong.
#include "programs/program.hpp"

#if defined(__unix__)

using namespace kdna_test;

TEST_CASE("kdna_replay tells right, wrong and unusable cases apart") {
    const scratch_folder folder;
    const std::string tensors =
        kdna::concat("'", KDNA_TESTS_DIR, "/golden/condconv_c8_o12_k3_n4_s1_p1_g2.safetensors' ");
    const auto with = [&](const std::string& json, const std::string& more = "") {
        std::ofstream(folder / "case.json") << json;
        return run(KDNA_REPLAY, folder, tensors + "'" + (folder / "case.json") + "' " + more);
    };
    const std::string good = R"({"family": "condconv", "stride": 1, "padding": 1, "groups": 2})";
    CHECK(with(good).code == 0);
    CHECK(with(good, "--tolerance 1e-12").code == 1);
    CHECK(contains(with(good, "--tolerance 1e-12").output, "beyond"));

    const auto unusable = [&](const std::string& json, const std::string& part) {
        const outcome result = with(json);
        INFO(json << "\n" << result.output);
        CHECK(result.code == 2);
        CHECK(contains(result.output, part));
    };
    unusable(R"({"family": "condconv", "stride": 1, "padding": 1, "groups": 1})", "expected");
    unusable(R"({"family": "condconv", "stride": 2, "padding": 1, "groups": 2})", "output");
    unusable(R"({"family": "condconv", "stride": -1, "padding": 1, "groups": 2})", "stride");
    unusable(R"({"family": "condconv", "padding": 1, "groups": 2})", "stride");
    unusable(R"({"family": "kerneldna", "kind": "resnet18_stage", "stride": 2})", "conv1.weight");
    unusable(R"({"family": "kerneldna", "kind": "resnet19", "stride": 2})", "resnet19");
    unusable(R"({"family": "nothing"})", "nothing");
    unusable(R"([1, 2])", "JSON object");
    unusable("{", "JSON");
    CHECK(run(KDNA_REPLAY, folder, "missing.safetensors missing.json").code == 2);
    CHECK(run(KDNA_REPLAY, folder, "").code == 2);
}

TEST_CASE("kdna_replay knows every family and names what does not fit it") {
    const scratch_folder folder;
    struct {
        const char *name, *good, *bad, *part;
    } const cases[] = {
        {"odconv_c8_o12_k3_n2_s1_p1_d1_g2", R"({"family": "odconv", "stride": 1, "padding": 1, "groups": 2})",
         R"({"family": "odconv", "stride": 1, "padding": 1, "groups": 1})", "attention.fc.weight"},
        {"dyconv_c5_o7_k3_n3_s1_p1_d1_g1", R"({"family": "dyconv", "stride": 1, "padding": 1, "groups": 1})",
         R"({"family": "dyconv", "stride": 1, "padding": 1, "groups": 0})", "groups"},
        {"kw_grid", nullptr, R"({"family": "kernel_warehouse", "cell_num_ratio": 1, "layers": []})", "layers"},
        {"kw_basis", nullptr, R"({"family": "kernel_warehouse", "cell_num_ratio": 0, "layers": [{}]})",
         "cell_num_ratio"},
        {"kw_depthwise", nullptr,
         R"({"family": "kernel_warehouse", "cell_num_ratio": 1, "layers": [{"kernel": 3, "padding": 1, "act": "tanh"}]})",
         "tanh"},
        {"dcd_conv_c50_o17_k1_s2_7x7", R"({"family": "dcd", "kind": "conv", "kernel": 1, "padding": 0, "stride": 2})",
         R"({"family": "dcd", "kind": "conv", "kernel": 1, "padding": 1, "stride": 2})", "padding"},
        {"dcd_classifier_c37_o23_l6", R"({"family": "dcd", "kind": "classifier"})",
         R"({"family": "dcd", "kind": "basic", "stride": 1})", "conv.weight"},
        {"sparse_c5_o11_k3_b3_s1_g1",
         R"({"family": "sparse_kernel", "bits": 3, "stride": 1, "padding": 0, "groups": 1})",
         R"({"family": "sparse_kernel", "bits": 4, "stride": 1, "padding": 0, "groups": 1})", "codebook"},
        {"dymn_c6_o10_k1_n4_s1_g1", R"({"family": "dymn", "stride": 1, "padding": 0, "groups": 1})",
         R"({"family": "dymn", "stride": 1, "padding": 0, "groups": 1, "temperature": 0})", "temperature"},
        {"modulated_c9_o3_k1_d7_s1", R"({"family": "modulated", "stride": 1, "padding": 0, "demodulate": 0})",
         R"({"family": "modulated", "stride": 1, "padding": 1, "demodulate": 0})", "output"},
        {"xvolution_c6_k5_p2_8x7", R"({"family": "x_volution", "padding": 2})",
         R"({"family": "x_volution", "padding": 1})", "output: expected (N 2, C 6, H 6, W 5)"},
        {"fdconv_c20_o18_k1_n6_s1_local_5x6", R"({"family": "fdconv", "stride": 1, "padding": 0})",
         R"({"family": "fdconv", "stride": 1, "padding": 0, "groups": 2})", "KSM_Global"},
        {"lsconv_c24_l5_k3_s4_5x9", R"({"family": "lsconv", "kernel": 3})", R"({"family": "lsconv", "kernel": 5})",
         "lkp.cv4.weight"},
        {"runtime_dense_c8_3x3_s2_zeros_each_g2",
         R"({"family": "runtime_kernel", "kind": "dense", "stride": 2, "padding": 1, "groups": 2})",
         R"({"family": "runtime_kernel", "kind": "shared", "stride": 2, "padding": 1, "groups": 2})", "kernel"},
    };
    for (const auto& c : cases) {
        const std::string tensors = kdna::concat("'", KDNA_TESTS_DIR, "/golden/", c.name, ".safetensors' ");
        const auto with = [&](const char* json) {
            const std::string file = folder / "case.json";
            std::ofstream(file) << json;
            return run(KDNA_REPLAY, folder, tensors + "'" + file + "'");
        };
        const outcome good =
            c.good != nullptr
                ? with(c.good)
                : run(KDNA_REPLAY, folder, tensors + kdna::concat("'", KDNA_TESTS_DIR, "/golden/", c.name, ".json'"));
        INFO(c.name << "\n" << good.output);
        CHECK(good.code == 0);
        const outcome bad = with(c.bad);
        INFO(bad.output);
        CHECK(bad.code == 2);
        CHECK(contains(bad.output, c.part));
    }
}

#endif
