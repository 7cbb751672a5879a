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

#endif
