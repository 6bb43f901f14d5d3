"""
Features of what is known beside the bars: order book, trades, liquidations, mark price, macro and on-chain series,
and what people write.

Each is `fill(…)` beside a `missing(…)` of what it reads. A flow is that of the last five minutes before the bar's end,
whatever the bars' interval: it is set against itself (a change, a z-score, buys against sells), never against the bar.
"""

from __future__ import annotations

from typing import Final

from qraft_quant.features.catalog import FeatureSpec
from qraft_quant.features.sets.templates import each, family

_ORDER_BOOK = (
    *each("order_book", "queue_imbalance_z_{n}", "fill(zscore(queue_imbalance, {n}), 0)", n=(48, 288)),
    *family(
        "order_book",
        book_spread="fill(book_spread_frac, 0)",
        book_spread_change_12="fill(delta(book_spread_frac, 12), 0)",
        book_spread_z_288="fill(zscore(book_spread_frac, 288), 0)",
        book_spread_rank_48="fill(rank(book_spread_frac, 48), 0.5)",
        book_missing="missing(book_spread_frac + microprice_frac + queue_imbalance)",
        microprice_deviation="fill(microprice_frac, 0)",
        microprice_deviation_12="fill(mean(microprice_frac, 12), 0)",
        microprice_deviation_z_288="fill(zscore(microprice_frac, 288), 0)",
        queue_imbalance="fill(queue_imbalance, 0)",
        queue_imbalance_change_1="fill(delta(queue_imbalance, 1), 0)",
        queue_imbalance_12="fill(mean(queue_imbalance, 12), 0)",
        queue_imbalance_rank_48="fill(rank(queue_imbalance, 48), 0.5)",
        depth_imbalance="fill(depth_imbalance, 0)",
        depth_imbalance_change_1="fill(delta(depth_imbalance, 1), 0)",
        depth_imbalance_12="fill(mean(depth_imbalance, 12), 0)",
        depth_imbalance_z_288="fill(zscore(depth_imbalance, 288), 0)",
        depth_imbalance_rank_48="fill(rank(depth_imbalance, 48), 0.5)",
        depth_ratio="fill(log(bid_depth / ask_depth), 0)",
        depth_change_12="fill(delta(log(bid_depth + ask_depth), 12), 0)",
        depth_z_288="fill(zscore(log(bid_depth + ask_depth), 288), 0)",
        depth_missing="missing(depth_imbalance + bid_depth + ask_depth)",
        order_flow_imbalance="fill(signed_log(order_flow_imbalance), 0)",
        order_flow_imbalance_12="fill(mean(signed_log(order_flow_imbalance), 12), 0)",
        order_flow_imbalance_z_288="fill(zscore(order_flow_imbalance, 288), 0)",
        order_flow_missing="missing(order_flow_imbalance)",
    ),
)
_TRADES = family(
    "trades",
    trade_sign_imbalance="fill(imbalance(n_taker_buys, n_trades - n_taker_buys), 0)",
    trade_sign_imbalance_12="fill(imbalance(sum(n_taker_buys, 12), sum(n_trades - n_taker_buys, 12)), 0)",
    trade_flow_imbalance="fill(imbalance(taker_buy_notional, trade_notional - taker_buy_notional), 0)",
    trade_flow_imbalance_12="fill(imbalance(sum(taker_buy_notional, 12),"
    " sum(trade_notional - taker_buy_notional, 12)), 0)",
    trade_flow_imbalance_z_288="fill(zscore(imbalance(taker_buy_notional,"
    " trade_notional - taker_buy_notional), 288), 0)",
    vpin_48="fill(vpin(taker_buy_notional, trade_notional, 48), 0)",
    trade_size_change_12="fill(delta(log(trade_notional / n_trades), 12), 0)",
    trade_size_z_288="fill(zscore(log(trade_notional / n_trades), 288), 0)",
    trade_size_gap="fill(log(taker_buy_notional / n_taker_buys)"
    " - log((trade_notional - taker_buy_notional) / (n_trades - n_taker_buys)), 0)",
    trade_count_z_288="fill(zscore(log(1 + n_trades), 288), 0)",
    trade_count_trend_12_288="fill(mean(log(1 + n_trades), 12) - mean(log(1 + n_trades), 288), 0)",
    trade_notional_z_288="fill(zscore(log(1 + trade_notional), 288), 0)",
    trade_flow_missing="missing(n_trades + n_taker_buys + trade_notional + taker_buy_notional)",
    liquidation_notional="fill(log(1 + liquidation_usd), 0)",
    liquidation_notional_12="log(1 + sum(fill(liquidation_usd, 0), 12))",
    liquidation_count_12="log(1 + sum(fill(n_liquidations, 0), 12))",
    liquidation_missing="missing(n_liquidations + liquidation_usd)",
)
_MARK = family(
    "derivatives",
    mark_premium="fill(mark_premium_frac, 0)",
    mark_premium_change_12="fill(delta(mark_premium_frac, 12), 0)",
    mark_premium_mean_96="fill(mean(mark_premium_frac, 96), 0)",
    mark_premium_z_288="fill(zscore(mark_premium_frac, 288), 0)",
    mark_premium_missing="missing(mark_premium_frac)",
    funding_basis_gap_2016="fill(zscore(funding_rate, 2016) - zscore(basis_frac, 2016), 0)",
)
_RANK = family(
    "rank",
    rank_funding_rate="fill(cross_rank(funding_rate), 0.5)",
    rank_open_interest_change_288="fill(cross_rank(delta(log(open_interest_usd), 288)), 0.5)",
    rank_basis="fill(cross_rank(basis_frac), 0.5)",
    rank_queue_imbalance="fill(cross_rank(queue_imbalance), 0.5)",
    rank_order_flow_imbalance="fill(cross_rank(order_flow_imbalance), 0.5)",
)
_MACRO = family(
    "macro",
    vix="fill(vix / 100, 0)",
    vix_change_288="fill(delta(log(vix), 288), 0)",
    vix_change_2016="fill(delta(log(vix), 2016), 0)",
    vix_z_60_days="fill(vix_z, 0)",
    vix_missing="missing(vix)",
    dxy_change_288="fill(delta(log(dxy), 288), 0)",
    dxy_change_2016="fill(delta(log(dxy), 2016), 0)",
    dxy_z_60_days="fill(dxy_z, 0)",
    dxy_missing="missing(dxy)",
    us10y_change_2016="fill(delta(us10y, 2016), 0)",
    us10y_z_60_days="fill(us10y_z, 0)",
    yield_slope="fill(us10y - us2y, 0)",
    yield_slope_change_2016="fill(delta(us10y - us2y, 2016), 0)",
    yields_missing="missing(us10y + us2y)",
    fear_greed="fill(fear_greed / 100, 0.5)",
    fear_greed_change_288="fill(delta(fear_greed / 100, 288), 0)",
    fear_greed_z_60_days="fill(fear_greed_z, 0)",
    fear_greed_missing="missing(fear_greed)",
    macro_z_missing="missing(vix_z + dxy_z + us10y_z + fear_greed_z)",
    fear_gap_60_days="fill(vix_z - fear_greed_z, 0)",
    dollar_yield_gap_60_days="fill(dxy_z - us10y_z, 0)",
    events_24h="fill(log(1 + n_events_24h), 0)",
    events_missing="missing(n_events_24h)",
)
_ONCHAIN = family(
    "onchain",
    hashrate_change_288="fill(delta(log(btc_hashrate), 288), 0)",
    hashrate_change_2016="fill(delta(log(btc_hashrate), 2016), 0)",
    hashrate_z_60_days="fill(btc_hashrate_z, 0)",
    hashrate_missing="missing(btc_hashrate)",
    hashrate_z_missing="missing(btc_hashrate_z)",
)
# Where nobody wrote for an hour, or for a day, there is no mood to speak of: these flags say more than a 0.
_TEXT = family(
    "text",
    text_heat="fill(text_heat, 0)",
    text_heat_surprise="fill(text_heat_surprise, 0)",
    text_heat_change_288="fill(delta(text_heat_24h, 288), 0)",
    text_heat_z_288="fill(zscore(text_heat, 288), 0)",
    text_heat_missing="missing(text_heat + text_heat_24h + text_heat_surprise)",
    text_sentiment="fill(text_sentiment, 0)",
    text_sentiment_24h="fill(text_sentiment_24h, 0)",
    text_sentiment_gap="fill(text_sentiment - text_sentiment_24h, 0)",
    text_sentiment_change_288="fill(delta(text_sentiment_24h, 288), 0)",
    text_sentiment_z_288="fill(zscore(text_sentiment_24h, 288), 0)",
    text_sentiment_missing="missing(text_sentiment)",
    text_opinion_spread="fill(text_opinion_spread, 0)",
    text_novelty="fill(text_novelty, 1)",
    text_comment_ratio="fill(text_comment_ratio, 0)",
    text_event_density="fill(text_event_density, 0)",
    text_event_density_change_288="fill(delta(text_event_density, 288), 0)",
    text_missing="missing(text_sentiment_24h + text_opinion_spread + text_novelty + text_event_density"
    " + text_comment_ratio)",
    rank_text_heat="fill(cross_rank(text_heat), 0.5)",
    rank_text_sentiment_24h="fill(cross_rank(text_sentiment_24h), 0.5)",
    news_heat="fill(news_heat, 0)",
    news_sentiment="fill(news_sentiment, 0)",
    news_event_density="fill(news_event_density, 0)",
    news_missing="missing(news_heat + news_sentiment + news_event_density)",
)
STATE: Final[tuple[FeatureSpec, ...]] = (*_ORDER_BOOK, *_TRADES, *_MARK, *_RANK, *_MACRO, *_ONCHAIN, *_TEXT)
