(* From a run of the whole, runs of its left part and of its right part. *)
From Membptt Require Import Walk.

Section Project.
Context {size : Size}.

(* position a holds something as long as step a is not backward *)
Definition holds a (x : option nat * st) := a < lft (snd x) -> 1 <= lev (snd x) a.

Ltac level H := rewrite H; cases.
(* ---- left: steps 0 .. u, positions 0 .. S u ---- Equal below S u.  An internal state of step u that was there at the
   start is forgotten until step u runs again. *)
Definition Lt u s s' (l : trace) :=
  lft s' = Nat.min (lft s) (S u) /\
  (forall x, x <= u -> lev s' x = lev s x) /\
  (lev s' (S u) = 0 \/ lev s' (S u) = lev s (S u)) /\
  (u < lft s -> 2 <= lev s (S u) -> lev s' (S u) = lev s (S u) \/ 0 < ev u (S u) l) /\
  (forall q, cur s = Some q -> q <= u -> cur s' = Some q).

(* The left part takes no more slots than the whole. *)
Lemma Lt_cap : forall u m hi s s' l, Lt u s s' l -> u < hi -> cap m hi s -> cap m (S u) s'.
Proof.
  unfold cap; intros u m hi s s' l (_ & B & D & _) Hv C.
  rewrite (room_split _ 0 (S (S u)) (S hi)) in C by lia.
  assert (room (lev s') 0 (S (S u)) <= room (lev s) 0 (S (S u))).
  { apply room_le. intros x Hx. destruct (Nat.eq_dec x (S u)) as [->|N].
    - destruct D as [->| ->]; auto. simpl. lia.
    - rewrite B by lia. auto. }
  lia.
Qed.

Ltac sp := repeat split; auto; try lia; try (intros; discriminate); try (intros; inj; auto; lia).
(* One action of the whole is one action of the left part, at the same cost, or none. *)
Lemma left_step : forall u a s e s1 s' l, step s e s1 -> Lt u s s' ((e, s1) :: l) -> ev u (S u) l = 0 \/ u < lft s1 ->
  (exists e' s1', step s' e' s1' /\ Lt u s1 s1' l /\ evi a (S u) e' = evi a (S u) e) \/
  (Lt u s1 s' l /\ evi a (S u) e = 0).
Proof.
  intros u a s e s1 [c' f' n'] l T (L1 & L2 & L3 & L4 & L5) Hd. unfold Lt.
  inversion T; subst; simpl in *; subst.
  - (* Run *) destruct (le_lt_dec q u) as [Q|Q].
    + left. rewrite (L5 q eq_refl Q).
      exists (Some q), (mk (Some (S q)) (fun x => if x =? S q then k else f' x) (Nat.min n (S u))). simpl.
      split; [apply Run with k; auto; lia|]. sp.
      * intros x Hx. rewrite H0, L2 by auto. auto.
      * rewrite H0. cases.
      * rewrite H0. intros A B. destruct (Nat.eqb_spec (S u) (S q)); auto. destruct (L4 A B); auto. right.
        revert H1. unfold evi. cases.
    + right. sp.
      * intros x Hx. rewrite H0, L2 by auto. cases.
      * rewrite H0. cases.
      * rewrite H0. destruct (Nat.eqb_spec (S u) (S q)); [lia|]. intros A B. destruct (L4 A B); auto. right.
        revert H1. unfold evi. cases.
      * unfold evi. cases.
  - (* RunBack *) destruct (le_lt_dec p u) as [Q|Q].
    + left. rewrite (L5 p eq_refl Q). replace (Nat.min (S p) (S u)) with (S p) by lia.
      exists (Some p), (mk None f' p). simpl. split; [constructor|]. sp.
    + right. sp.
      * intros A B. destruct (L4 ltac:(lia) B); auto. right. revert H. unfold evi. cases.
      * unfold evi. cases.
  - (* LoadBack *) destruct (le_lt_dec p u) as [Q|Q].
    + left. replace (Nat.min (S p) (S u)) with (S p) by lia.
      exists None, (mk None f' p). simpl. split.
      * constructor. destruct (Nat.eq_dec p u) as [->|N].
        { destruct (L4 ltac:(lia) H) as [E|E]; [rewrite E; auto|]. destruct Hd; lia. }
        rewrite L2 by lia. auto.
      * sp.
    + right. sp.
  - (* Get *) destruct (le_lt_dec q u) as [Q|Q].
    + left. exists None, (mk (Some q) f' (Nat.min n (S u))). simpl. split; [constructor; rewrite L2; auto|].
      sp.
    + right. sp.
  - (* Put *) destruct (lt_eq_lt_dec q (S u)) as [[Q|Q]|Q].
    + left. exists None, (mk c' (fun x => if x =? q then k else f' x) (Nat.min n (S u))). simpl.
      split. { apply Put with q k; auto. rewrite L2 by lia. destruct H as [H|[H E]]; auto. right. split;
        auto. apply L5; auto; lia. }
      sp.
      * intros x Hx. rewrite H0, L2 by auto. auto.
      * rewrite H0. cases.
      * rewrite H0. cases.
    + subst q. left. destruct (le_lt_dec k (f' (S u))) as [K|K].
      * exists None, (mk c' (fun x => if x =? S u then k else f' x) (Nat.min n (S u))). simpl.
        split; [apply Put with (S u) k; auto|]. sp.
        -- intros x Hx. rewrite H0, L2 by auto. auto.
        -- rewrite H0. cases.
        -- rewrite H0. cases.
      * exists None, (mk c' (fun x => if x =? S u then 0 else f' x) (Nat.min n (S u))). simpl.
        split; [apply Put with (S u) 0; auto; left; lia|]. sp.
        -- intros x Hx. rewrite H0, L2 by auto. cases.
        -- rewrite H0. cases.
        -- rewrite H0. rewrite !Nat.eqb_refl. intros A B. destruct H as [H|[H _]]; [|lia].
           destruct (L4 A) as [E|E]; auto; lia.
    + right. sp.
      * intros x Hx. rewrite H0, L2 by auto. cases.
      * rewrite H0. cases.
      * rewrite H0. cases.
Qed.

(* The left part of a run is a run, at the cost of the steps 0 .. u in it; what is held stays held. *)
Lemma proj_left : forall l u a m hi s s', run m hi s l -> Lt u s s' l -> a <= u < hi ->
  exists l', run m (S u) s' l' /\ lft (fin s' l') = Nat.min (lft (fin s l)) (S u) /\
    ev a (S u) l' = ev a (S u) l /\ (Forall (holds a) l -> Forall (holds a) l').
Proof.
  induction l as [| [e s1] l]; intros u a m hi s s' R L Hu.
  - exists []. simpl. repeat split; auto. apply L.
  - destruct R as (T & C & R).
    assert (Hd : ev u (S u) l = 0 \/ u < lft s1).
    { destruct (le_lt_dec (lft s1) u); auto. left. eapply done_no_run; eauto. }
    destruct (left_step u a s e s1 s' l T L Hd) as [(e' & s1' & T' & L' & E) | (L' & E)].
    + destruct (IHl u a m hi s1 s1' R L' Hu) as (l' & R' & F' & E' & K').
      exists ((e', s1') :: l'). simpl. repeat split; auto; try lia.
      * apply (Lt_cap u m hi s1 s1' l); auto; lia.
      * intro F. inversion F; subst. constructor; auto. unfold holds in *. simpl in *.
        destruct L' as (M1 & M2 & _). rewrite M1, M2 by lia. intro. apply H1. lia.
    + destruct (IHl u a m hi s1 s' R L' Hu) as (l' & R' & F' & E' & K').
      exists l'. simpl. repeat split; auto; try lia. intro F. inversion F; auto.
Qed.

(* Where h_a alone is stored at or below u, the cursor is beyond u, and step u runs again or has no internal state
   stored, the rest of the run is worth a run of the steps a .. u from the start. *)
Lemma left_part : forall l u a m hi s, run m hi s l -> a <= u < hi -> u < lft s -> lft (fin s l) <= a ->
  (forall x, x <= u -> lev s x = if x =? a then 1 else 0) -> (forall q, cur s = Some q -> u < q) ->
  (2 <= lev s (S u) -> 0 < ev u (S u) l) ->
  exists l', run m (S u) (init a (S u)) l' /\ lft (fin (init a (S u)) l') <= a /\ ev a (S u) l' = ev a (S u) l /\
    (Forall (holds a) l -> Forall (holds a) l').
Proof.
  intros l u a m hi s R Hu Hl Hf HS HP HI.
  destruct (proj_left l u a m hi s (init a (S u)) R) as (l' & R' & F' & E' & K'); auto.
  - unfold Lt, init; simpl. repeat split; auto; try lia.
    + intros x Hx. rewrite HS; auto.
    + left. cases.
    + intros q E Q. apply HP in E. lia.
  - exists l'. repeat split; auto. rewrite F'. lia.
Qed.

(* ---- right: steps v and beyond ---- h_v is held as long as step v runs again (or for good, where keep says so); the
   positions above v are as they were. *)
Definition again (keep : bool) v (l : trace) := keep || (0 <? ev v (S v) l).
(* 1 where it is true *)
Definition bit (b : bool) := if b then 1 else 0.
(* s' is s for the steps from v on, with v held as long as that *)
Definition Rt v keep s s' (l : trace) :=
  lft s' = lft s /\
  (forall x, lev s' x = if x <? v then 0 else if x =? v then bit (again keep v l) else lev s x) /\
  (forall q, cur s = Some q -> v < q -> cur s' = Some q) /\
  (forall q, cur s = Some q -> q <= v -> again keep v l = true -> cur s' = Some v).

(* the right part fits in m' slots *)
Definition ok keep v m' hi s (l : trace) := (lft s <=? v) || (bit (again keep v l) + room (lev s) (S v) (S hi) <=? m').
(* at every instant *)
Fixpoint allok keep v m' hi s (l : trace) : bool :=
  ok keep v m' hi s l && match l with [] => true | (_, s1) :: r => allok keep v m' hi s1 r end.
(* Where it does not fit, it does not at some instant. *)
Lemma not_allok : forall l keep v m' hi s, allok keep v m' hi s l = false ->
  exists l1 l2, l = l1 ++ l2 /\ ok keep v m' hi (fin s l1) l2 = false.
Proof.
  induction l as [| [e s1] l]; simpl; intros.
  - exists [], []. rewrite andb_true_r in H. auto.
  - destruct (ok keep v m' hi s ((e, s1) :: l)) eqn:E; simpl in H.
    + destruct (IHl _ _ _ _ _ H) as (l1 & l2 & -> & F). exists ((e, s1) :: l1), l2. auto.
    + exists [], ((e, s1) :: l). auto.
Qed.

(* Where the right part fits, its run stays within m' slots. *)
Lemma Rt_cap : forall v keep m' hi s s' l, (forall x,
  lev s' x = if x <? v then 0 else if x =? v then bit (again keep v l) else lev s x) ->
  v <= hi -> v < lft s -> ok keep v m' hi s l = true -> cap m' hi s'.
Proof.
  unfold cap, ok. intros v keep m' hi s s' l B Hv Hl H.
  apply orb_prop in H. destruct H as [H|H]; apply Nat.leb_le in H; [lia|].
  rewrite (room_split _ 0 v (S hi)), (room_split _ v (S v) (S hi)), room_one by lia.
  rewrite (room_zero _ 0 v) by (intros; rewrite B; cases).
  rewrite (room_ext (lev s') (lev s) (S v) (S hi)) by (intros; rewrite B; cases).
  rewrite B. destruct (Nat.ltb_spec v v); [lia|]. rewrite Nat.eqb_refl. destruct (again keep v l); simpl in *; lia.
Qed.

(* An action that does not run step v leaves its future as it is; one that does was part of it. *)
Lemma again_other : forall keep v e (s1 : st) l, e <> Some v -> again keep v ((e, s1) :: l) = again keep v l.
Proof. intros. unfold again. simpl. destruct e as [q|]; simpl; auto. replace ((v <=? q) && (q <? S v)) with false; auto.
  symmetry. destruct (Nat.leb_spec v q), (Nat.ltb_spec q (S v)); auto. destruct H. f_equal. lia. Qed.
(* an action that runs step v *)
Lemma again_this : forall keep v (s1 : st) l, again keep v ((Some v, s1) :: l) = true.
Proof. intros. unfold again. simpl. destruct (Nat.leb_spec v v), (Nat.ltb_spec v (S v)); try lia. simpl.
apply orb_true_r. Qed.

(* One action of the whole is no more than one run of the right part, or none; at the last run of step v, h_v goes
   first. *)
Lemma right_step : forall v keep m' hi s e s1 s' l, step s e s1 -> Rt v keep s s' ((e, s1) :: l) -> v <= hi ->
  v < lft s1 ->
  cap m' hi s' -> ok keep v m' hi s1 l = true ->
  exists pre, run m' hi s' pre /\ Rt v keep s1 (fin s' pre) l /\ ev v hi pre <= evi v hi e /\
    (keep = true -> Forall (holds v) pre).
Proof.
  intros v keep m' hi s e s1 s' l T L Hv Hl C O. pose proof (lft_step s e s1 T) as Hm.
  assert (ONE : forall e' s1', step s' e' s1' -> Rt v keep s1 s1' l -> evi v hi e' <= evi v hi e ->
     exists pre, run m' hi s' pre /\ Rt v keep s1 (fin s' pre) l /\ ev v hi pre <= evi v hi e /\
       (keep = true -> Forall (holds v) pre)).
  { intros e' s1' T' R' E'. exists [(e', s1')]. simpl. repeat split; auto; try apply R'; try lia.
    - eapply Rt_cap; eauto; apply R'.
    - intro K. repeat constructor. unfold holds. simpl. intros _. destruct R' as (_ & B & _). rewrite B.
      destruct (Nat.ltb_spec v v); [lia|]. rewrite Nat.eqb_refl. unfold again. rewrite K. simpl. lia. }
  assert (SKIP : Rt v keep s1 s' l ->
     exists pre, run m' hi s' pre /\ Rt v keep s1 (fin s' pre) l /\ ev v hi pre <= evi v hi e /\
       (keep = true -> Forall (holds v) pre)).
  { intro R'. exists []. simpl. repeat split; auto; try apply R'; lia. }
  destruct s' as [c' f' n']. destruct L as (L1 & L2 & L3 & L4). unfold Rt in *.
  inversion T; subst; simpl in *; subst.
  - (* Run *) destruct (lt_eq_lt_dec q v) as [[Q|Q]|Q].
    + rewrite again_other in L2, L4 by (intro Z; inj; lia). apply SKIP. repeat split; auto.
      * intro x. rewrite L2, H0. cases.
      * intros y Hy. inj. lia.
      * intros y Hy _ A. apply (L4 q); auto; lia.
    + subst q. rewrite again_this in L2, L4. rewrite (L4 v) in * by auto.
      destruct (again keep v l) eqn:A.
      * apply (ONE (Some v) (mk (Some (S v)) (fun x => if x =? S v then k else f' x) n)); auto.
        -- apply Run with k; auto.
        -- simpl. repeat split; auto.
           ++ intro x. rewrite L2, H0. cases.
           ++ intros y Hy. inj. lia.
      * exists [(None, mk (Some v) (fun x => if x =? v then 0 else f' x) n);
                (Some v, mk (Some (S v)) (fun x => if x =? S v then k else if x =? v then 0 else f' x) n)].
        assert (R1 : forall x, (if x =? S v then k else if x =? v then 0 else f' x) =
                     (if x <? v then 0 else if x =? v then bit (again keep v l) else g x)).
        { intro x. rewrite A, L2, H0. cases. }
        simpl. split; [|split; [|split]].
        -- split; [apply Put with v 0; auto; left; lia|]. split; [|split; [apply Run with k; auto|split; auto]].
           ++ unfold cap in *. simpl in *. etransitivity; [|exact C]. apply room_le. intros x _. cases.
           ++ eapply Rt_cap with (s := mk (Some (S v)) g n); eauto.
        -- rewrite A in R1. repeat split; auto. intros y Hy. inj. lia.
        -- lia.
        -- intro K. unfold again in A. rewrite K in A. discriminate.
    + rewrite again_other in L2, L4 by (intro Z; inj; lia). rewrite (L3 q) in * by auto.
      apply (ONE (Some q) (mk (Some (S q)) (fun x => if x =? S q then k else f' x) n)); auto.
      * apply Run with k; auto.
      * simpl. repeat split; auto.
        -- intro x. rewrite L2, H0. cases.
        -- intros y Hy. inj. lia.
  - (* RunBack *) rewrite again_other in L2, L4 by (intro Z; inj; lia). rewrite (L3 p) in * by auto.
    apply (ONE (Some p) (mk None f' p)); auto. constructor. repeat split; auto; intros y Hy; discriminate.
  - (* LoadBack *) rewrite again_other in L2, L4 by congruence.
    apply (ONE None (mk None f' p)); auto. constructor. rewrite L2. cases.
    repeat split; auto; intros y Hy; discriminate.
  - (* Get *) rewrite again_other in L2, L4 by congruence. destruct (le_lt_dec q v) as [Q|Q].
    + destruct (again keep v l) eqn:A.
      * apply (ONE None (mk (Some v) f' n)); auto. constructor. rewrite L2. destruct (Nat.ltb_spec v v); [lia|].
        rewrite Nat.eqb_refl. simpl. lia. repeat split; auto. intros y Hy. inj. lia.
      * apply SKIP. repeat split; auto. intros y Hy. inj. lia. intros; discriminate.
    + apply (ONE None (mk (Some q) f' n)); auto. constructor. rewrite L2. cases. repeat split; auto. intros y Hy. inj.
      lia.
  - (* Put *) rewrite again_other in L2, L4 by congruence. destruct (le_lt_dec q v) as [Q|Q].
    + apply SKIP. repeat split; auto. intro x. rewrite L2, H0. cases.
    + apply (ONE None (mk c' (fun x => if x =? q then k else f' x) n)); auto.
      * apply Put with q k; auto. destruct H as [H|[H E]]; [left; rewrite L2; cases | right; auto].
      * repeat split; auto. intro x. simpl. rewrite L2, H0. cases.
Qed.

(* The right part of a run is a run in m' slots, at no more than the cost of the steps from v on. *)
Lemma proj_right : forall l v keep m m' hi s s', run m hi s l -> Rt v keep s s' l -> v <= hi -> v < lft s ->
  lft (fin s l) <= v -> allok keep v m' hi s l = true ->
  exists l', run m' hi s' l' /\ lft (fin s' l') <= v /\ ev v hi l' <= ev v hi l /\ (keep = true -> Forall (holds v) l').
Proof.
  induction l as [| [e s1] l]; intros v keep m m' hi s s' R L Hv Hl Hf A.
  - simpl in Hf. lia.
  - destruct R as (T & _ & R). change (fin s ((e, s1) :: l)) with (fin s1 l) in Hf.
    cbn [allok] in A. apply andb_prop in A. destruct A as (A0 & A).
    assert (C : cap m' hi s') by (eapply Rt_cap; eauto; apply L).
    destruct (le_lt_dec (lft s1) v) as [Hd|Hd].
    + (* step v goes backward: stop *)
      destruct s' as [c' f' n']. destruct L as (L1 & L2 & L3 & L4).
      inversion T; subst; simpl in *; try lia; subst; assert (p = v) by lia; subst p.
      * rewrite again_this in L4. rewrite (L4 v) in * by auto.
        exists [(Some v, mk None f' v)]. simpl. repeat split; auto. constructor. lia.
        intro. repeat constructor. unfold holds; simpl. lia.
      * exists [(None, mk None f' v)]. simpl. repeat split; auto. constructor. rewrite L2. cases. lia.
        intro. repeat constructor. unfold holds; simpl. lia.
    + assert (O : ok keep v m' hi s1 l = true). { destruct l as [|[e2 s2] l]; simpl in A; apply andb_prop in A; tauto. }
      destruct (right_step v keep m' hi s e s1 s' l T L Hv Hd C O) as (pre & P1 & P2 & P3 & P4).
      destruct (IHl v keep m m' hi s1 (fin s' pre) R P2 Hv Hd Hf A) as (l' & R' & F' & E' & K').
      exists (pre ++ l'). rewrite run_app, fin_app, ev_app. simpl. repeat split; auto; try lia.
      intro K. apply Forall_app. auto.
Qed.
(* The same from the start of the whole: step v runs, so h_v is held at first. *)
Lemma right_part : forall l a v keep m m' hi, run m hi (init a hi) l -> a <= v < hi -> lft (fin (init a hi) l) <= a ->
  allok keep v m' hi (init a hi) l = true ->
  exists l', run m' hi (init v hi) l' /\ lft (fin (init v hi) l') <= v /\ ev v hi l' <= ev v hi l /\
    (keep = true -> Forall (holds v) l').
Proof.
  intros l a v keep m m' hi R Hv Hf A. apply (proj_right l v keep m m' hi (init a hi)); auto; try lia; try (simpl; lia).
  assert (AG : again keep v l = true).
  { unfold again. destruct (Nat.ltb_spec 0 (ev v (S v) l)); [apply orb_true_r|]. exfalso.
    assert (2 <= lev (init a hi) (S v)). { eapply stay; eauto; try (simpl; lia). }
    revert H0. simpl. cases. }
  unfold Rt. rewrite AG. simpl. repeat split; auto.
  - intro x. cases.
  - intros q E Q. inj. lia.
Qed.
End Project.
