//! What the classification head reads.

use janus_core::{Analysis, DeviceChoice, TokenIds, Variant};
use janus_core::{
    AssessConfig, Claim, HeadInput, HttpPair, Janus, JanusConfig, Pooling, Precision, VulnCategory, prompt,
};

fn findings() -> Vec<(HttpPair, Claim)> {
    let pair = |body: &str| {
        HttpPair::parse("GET /?q=a HTTP/1.1\r\n\r\n", format!("HTTP/1.1 200 OK\r\n\r\nResponse:\n{body}"))
            .expect("valid")
    };
    let claim = |text: &str| Claim::new(VulnCategory::Xss).with_parameter("q").with_text(text);
    vec![
        (pair("one\n\nClaim: <b>"), claim("first")),
        (pair("two, longer"), claim("first")),
        (pair("one\n\nClaim: <b>"), claim("second, on the first pair")),
    ]
}

fn inputs() -> Vec<HeadInput> {
    let of = |layer| Pooling::ALL.map(|pooling| HeadInput { layer, pooling });
    [2, 0, 1].into_iter().flat_map(of).collect()
}

#[test]
fn pooled_states_have_the_same_bits_alone_and_beside_others_that_begin_alike() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    janus_core::write_tiny_model(folder.path(), 5).expect("written");
    for precision in [Precision::F32, Precision::Auto] {
        let janus =
            Janus::load(folder.path(), JanusConfig { device: DeviceChoice::Flex, precision, ..JanusConfig::default() })
                .expect("loads");
        let findings = findings();
        let findings: Vec<_> = findings.iter().map(|(pair, claim)| (pair, claim)).collect();
        let of = |findings: &[(&HttpPair, &Claim)]| -> Vec<Vec<Vec<f32>>> {
            let pooled = janus.pooled_states(findings, &AssessConfig::default(), &inputs()).expect("read");
            pooled.into_iter().collect::<Result<_, _>>().expect("each fits")
        };
        let together = of(&findings);
        for (index, finding) in findings.iter().enumerate() {
            assert_eq!(of(&[*finding])[0], together[index]);
        }
        assert_ne!(together[0], together[2], "the claim shows");
        // The order of inputs is kept, and each is what its name says.
        let single = |input| janus.pooled_states(&findings[..1], &AssessConfig::default(), &[input]).expect("read");
        for (at, input) in inputs().into_iter().enumerate() {
            assert_eq!(single(input)[0].as_ref().expect("fits")[0], together[0][at]);
        }
    }
}

#[test]
fn the_response_s_tokens_are_those_of_the_response() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    janus_core::write_tiny_model(folder.path(), 5).expect("written");
    let janus = Janus::load(folder.path(), JanusConfig { precision: Precision::F32, ..JanusConfig::default() });
    let janus = janus.expect("loads");
    let config = AssessConfig { variant: Variant::Sc, ..AssessConfig::default() };
    for (pair, claim) in findings() {
        // The tiny model has one token a byte, so the mean over the response can be made from the whole prompt's states.
        let asked = prompt(&pair, &claim, Variant::Sc, Analysis::Full);
        let user = &asked.messages[1].content;
        // What looks like a line of ours is shown as none.
        let shown = janus_http::cut(&pair, &claim).response.trim().replace("Response:", "Response;");
        assert_eq!(user[asked.response.clone()], shown.replace("Claim:", "Claim;"));
        let ids = janus.prompt(&pair, &claim, &config).expect("encoded");
        let before = ids.windows(3).position(|three| janus.tokenizer().decode(three).expect("text") == "Wri");
        let first = before.expect("the task begins so") + asked.response.start;
        let batch = janus_core::TokenBatch::new(&[TokenIds(ids.to_vec())]);
        let states = janus.model().decoder.forward(&batch, false).expect("fits").last;
        let states = states.into_data().try_into_vec::<f32>().expect("float32");
        let width = states.len() / ids.len();
        let expected = Pooling::ResponseMean.pool(&states, width, first..first + asked.response.len());
        let input = HeadInput { layer: 2, pooling: Pooling::ResponseMean };
        let pooled = janus.pooled_states(&[(&pair, &claim)], &config, &[input]).expect("read");
        assert_eq!(pooled[0].as_ref().expect("fits")[0], expected);
    }
    let missing = HeadInput { layer: 9, pooling: Pooling::Mean };
    let (pair, claim) = &findings()[0];
    let error = janus.pooled_states(&[(pair, claim)], &config, &[missing]).expect_err("no such layer").to_string();
    assert!(error.contains("layer") && error.contains('9'), "{error}");
}
